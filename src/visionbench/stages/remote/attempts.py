"""Requests as samples: one entry for each attempt, and what they mean for the trust in the figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from visionbench.core import Prices, Samples
from visionbench.core.remote import ANSWERED, KINDS
from visionbench.remote.budget import cost_of
from visionbench.remote.requests import Outcome

LEAST_SHARE = 0.5
"""The least share of requests with an answer. With fewer, the figures are invalid."""
FAILED = "requests_failed"
"""The flag or the fault of failed requests."""


def series(outcomes: Sequence[Outcome], prices: Prices | None) -> Samples:
    """Return one entry for each attempt, and one for each request, in the order in which the requests ended.

    `attempts/start_s`, `duration_s`, `kind_index` (in `core.remote.KINDS`), `status_code`, `number_count` (1 is the
    first attempt of a request), `sent_bytes`, `received_bytes`, `input_tokens_count`, `output_tokens_count`,
    `truncated_count`, `first_token_s` and `cost_amount`; `requests/kind_index` and `requests/with_retries_s`. NaN is an
    unknown value.
    """
    timed = [one for outcome in outcomes for one in outcome.attempts]
    attempts = [one.attempt for one in timed]
    costs = [None if prices is None else cost_of(attempt, prices) for attempt in attempts]
    sent = [outcome for outcome in outcomes if outcome.attempts]
    columns: dict[str, Iterable[float | None]] = {
        "attempts/start_s": (one.start_s for one in timed),
        "attempts/duration_s": (attempt.seconds for attempt in attempts),
        "attempts/kind_index": (KINDS.index(attempt.kind) for attempt in attempts),
        "attempts/status_code": (attempt.status for attempt in attempts),
        "attempts/number_count": (one.number for one in timed),
        "attempts/sent_bytes": (attempt.sent_bytes for attempt in attempts),
        "attempts/received_bytes": (attempt.received_bytes for attempt in attempts),
        "attempts/input_tokens_count": (attempt.input_tokens for attempt in attempts),
        "attempts/output_tokens_count": (attempt.output_tokens for attempt in attempts),
        "attempts/truncated_count": (float(attempt.truncated) for attempt in attempts),
        "attempts/first_token_s": (attempt.first_token_s for attempt in attempts),
        "attempts/cost_amount": costs,
        "requests/kind_index": (KINDS.index(outcome.last.kind) for outcome in sent if outcome.last),
        "requests/with_retries_s": (outcome.seconds for outcome in sent),
    }
    return Samples(
        {
            name: np.array([np.nan if value is None else value for value in values], np.float64)
            for name, values in columns.items()
        }
    )


def judge(outcomes: Sequence[Outcome], planned: int, stopped: str, most_share: float, prices: Prices | None) -> Samples:
    """Return flags and faults about requests without an answer, requests that were not sent, and truncated answers.

    `planned` is the number of requests of the case, `stopped` the reason why not all were sent, and `most_share` the
    share of failed requests above which the figures are questionable.
    """
    sent = [outcome for outcome in outcomes if outcome.attempts]
    failed = [outcome for outcome in sent if not outcome.answered]
    flags, faults, labels = {}, {}, {}
    if failed:
        detail = f"{len(failed)} of {len(sent)} requests have no answer: {count_kinds(failed)}"
        if len(sent) - len(failed) < LEAST_SHARE * len(sent):
            faults[FAILED] = detail
        elif len(failed) > most_share * len(sent):
            flags[FAILED] = detail
        else:
            labels[FAILED] = detail
    if len(sent) < planned:
        flags["requests_not_sent"] = f"{planned - len(sent)} of {planned} requests were not sent: {stopped}"
    answers = [outcome.last for outcome in sent if outcome.answered and outcome.last]
    if truncated := sum(answer.truncated for answer in answers):
        labels["answers_truncated"] = f"{truncated} of {len(answers)} answers end at the limit of their tokens"
    if uncounted := sum(answer.output_tokens is None for answer in answers):
        labels["tokens_uncounted"] = f"{uncounted} of {len(answers)} answers have no count of their tokens"
    attempts = [one.attempt for outcome in sent for one in outcome.attempts]
    if prices is not None and (unknown := sum(cost_of(attempt, prices) is None for attempt in attempts)):
        flags["cost_incomplete"] = f"the cost of {unknown} of {len(attempts)} attempts is not known and not included"
    again = [one for outcome in sent for one in outcome.attempts[:-1]]
    if again:
        kinds = Counter(one.attempt.kind for one in again)
        labels["requests_repeated"] = f"{len(again)} attempts were repeated: {_listed(kinds)}"
    return Samples(flags=flags, faults=faults, labels=labels)


def count_kinds(outcomes: Iterable[Outcome]) -> str:
    """Return the kinds of the last attempts with their numbers, such as `timeout 2, refused 1`."""
    return _listed(Counter(outcome.last.kind for outcome in outcomes if outcome.last))


def answered(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return the requests with an answer, in the order in which their last attempts started."""
    chosen = [outcome for outcome in outcomes if outcome.answered]
    return sorted(chosen, key=lambda outcome: outcome.attempts[-1].start_s)


def _listed(kinds: Counter[str]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in kinds.most_common() if kind != ANSWERED)
