"""The advice in words, for the terminal and for the report, and the remedies after a failure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from visionbench.core import FAILED, KILLED, LOST, OUT_OF_MEMORY, SKIPPED_AFTER_OOM, WARNED, CaseResult
from visionbench.report import precisions, translations
from visionbench.report.translations import task, translate
from visionbench.results import doubts, summary
from visionbench.results.advice import candidates, choice, commands
from visionbench.results.advice.candidates import (
    INVALID_CASE,
    NOT_MEASURED,
    P50,
    Bounds,
    Candidate,
    LeftOut,
    headline,
    peak,
)
from visionbench.results.advice.choice import KNEE, Advice, Knee, frontier
from visionbench.results.archive import Run
from visionbench.results.naming import Names
from visionbench.statistics.timings import least_samples
from visionbench.terminal.advice_view import Block, Part, Steps
from visionbench.terminal.marks import MARKS

__all__ = [
    "Section",
    "command_lines",
    "frontier",
    "headline",
    "method",
    "next_commands",
    "parts",
    "peak",
    "remedies",
    "sections",
    "steps",
]

REMEDIES_BY_STATUS: Mapping[str, tuple[str, ...]] = {
    OUT_OF_MEMORY: ("try smaller", "try lower", "try quantised"),
    SKIPPED_AFTER_OOM: ("try smaller", "try lower", "try quantised"),
    KILLED: ("try smaller", "try lower", "try quantised", "try log"),
    FAILED: ("try log",),
    LOST: ("try resume",),
}
"""The remedies by status: keys of `translations.WORDS`."""
MOST_RUNS = 8
"""The most runs whose knees are listed."""
MOST_STEPS = 6
"""The most latency bounds that are listed."""
MOST_CASES = 4
"""The most cases that a line names, and the most ratios."""


@dataclass(frozen=True)
class Section:
    """Sentences with a heading."""

    key: str
    """The heading: a key of `translations.WORDS`."""
    lines: Sequence[str]


def sections(advice: Advice, language: str) -> list[Section]:
    """Return the advice for a task in words, the choice first, without the next commands. Empty sections are left out.

    The names of the runs contain what differs between the runs of the task.
    """
    words = _Words(advice, Names.of(advice.runs), language)
    parts = {
        "advice choice": words.choice(),
        "advice batch": words.batch_sizes(),
        "advice precision": precisions.lines(advice.runs, words.names, language),
        "advice bounds": words.ladder(),
        "advice left out": words.left_out(),
    }
    listed = {key: list(lines) for key, lines in parts.items()}
    return [Section(key, lines) for key, lines in listed.items() if lines]


def next_commands(advised: Sequence[Advice], language: str) -> list[tuple[str, str]]:
    """Return the purposes of each next command, and the command. A command that several tasks need is listed once."""
    purposes: dict[str, dict[str, None]] = {}
    for advice in advised:
        for step in commands.next_steps(advice):
            purposes.setdefault(step.command, {}).update(dict.fromkeys(step.purposes))
    return [
        ("; ".join(translate(f"step {purpose}", language) for purpose in each), command)
        for command, each in purposes.items()
    ]


def command_lines(advised: Sequence[Advice], language: str) -> list[str]:
    """Return the next commands as sentences."""
    return [
        translate("step", language, purposes=purposes, command=command)
        for purposes, command in next_commands(advised, language)
    ]


def parts(advised: Sequence[Advice], language: str) -> list[Part]:
    """Return the advice for each task for the terminal."""
    listed = []
    for advice in advised:
        first, *others = sections(advice, language)
        blocks = [Block(translate(section.key, language), section.lines) for section in others]
        listed.append(Part(task(advice.task, language), first.lines, blocks))
    return listed


def steps(advised: Sequence[Advice], language: str) -> Steps:
    """Return the next commands for the terminal."""
    return Steps(translate("advice next", language), next_commands(advised, language))


def method(advised: Sequence[Advice], bounds: Bounds, language: str) -> str:
    """Return the rule of the choice, and the kind of the intervals of speed."""
    text = rule(bounds, any(advice.quality_known for advice in advised), language)
    alone = any(not run.record.repeats for advice in advised for run in advice.runs)
    key = "intervals within" if alone else "intervals across"
    return f"{text} {translate(key, language)}"


def rule(bounds: Bounds, quality_known: bool, language: str) -> str:
    """Return the rule of the choice in one sentence."""
    conditions = [translate("rule valid", language)]
    if bounds.latency_ms is not None:
        conditions.append(translate("rule latency", language, limit=f"{bounds.latency_ms:g}"))
    if bounds.memory_mib is not None:
        conditions.append(translate("rule memory", language, limit=f"{bounds.memory_mib:,g}"))
    if quality_known:
        conditions.append(translate("rule quality", language, loss=_share(bounds.quality_loss)))
    key = "rule knee" if bounds.latency_ms is None else "rule bound"
    text = translate(key, language, conditions=translate("rule and", language).join(conditions), share=f"{KNEE:.0%}")
    return translate("rule", language, rule=text)


@dataclass(frozen=True)
class _Words:
    """The sentences about one task."""

    advice: Advice
    names: Names
    language: str

    def text(self, key: str, **fields: object) -> str:
        return translate(key, self.language, **fields)

    # -------------------------------------------------------------------------------------------------- the choice
    def choice(self) -> Iterator[str]:
        """Yield the choice, or the reason why there is none, then what limits it."""
        advice, chosen = self.advice, self.advice.chosen
        if chosen is None:
            yield self._why_none()
        else:
            values = ", ".join(self._values(chosen))
            yield self.text("chosen", name=self.names.name(chosen.run), batch=chosen.batch_size, values=values)
            yield from self._state()
            yield from self._uncompared()
            yield from self._limits(chosen)
        if advice.fastest and len(advice.ladder) < 2 and advice.fastest is not chosen:
            yield self._extreme(
                "fastest", advice.fastest, p50=summary.text(advice.fastest.p50.value if advice.fastest.p50 else None)
            )
        if advice.smallest and advice.smallest is not chosen:
            yield self._extreme("smallest", advice.smallest, mib=_mib(advice.smallest))

    def _why_none(self) -> str:
        advice = self.advice
        if advice.nearest is not None and advice.nearest.latency is not None:
            by, latency = advice.nearest.latency
            name, batch = self.names.name(advice.nearest.run), advice.nearest.batch_size
            why = self.text("too slow", by=by, latency=summary.text(latency.value), name=name, batch=batch)
            return self.text("none", why=", ".join([why, *self._doubts(advice.nearest)]))
        if not advice.cases.timed:
            return self.text("none timed")
        if advice.cases.candidates:
            return self.text("none", why=self._kinds(self._reason(case) for case in advice.left_out))
        reasons = {case.reason for case in advice.left_out}
        key = {frozenset({INVALID_CASE}): "all invalid", frozenset({NOT_MEASURED}): "none measured"}
        kinds = self._kinds(map(self._reason, advice.left_out))
        return self.text(key.get(frozenset(reasons), "none usable"), count=advice.cases.timed, kinds=kinds)

    def _reason(self, case: LeftOut) -> str:
        """Return the reason for leaving out a case in a few words: its status or the kind of its doubt, or a bound."""
        if case.reason in (INVALID_CASE, NOT_MEASURED):
            return self._cause(case.detail.partition(": ")[0]) or case.reason
        return self.text(f"reason {case.reason}")

    def _cause(self, kind: str) -> str:
        """Return the cause of a doubt in words if one is known, in English; else the kind of the doubt, or a status."""
        texts = {known: cause.text for cause in doubts.CAUSES for known in cause.kinds}
        return texts.get(kind, kind) if self.language == "en" else kind

    def _state(self) -> Iterator[str]:
        cases = self.advice.cases.candidates
        doubtful = [case for case in cases if case.questionable]
        if len(doubtful) == len(cases) > 1:
            kinds = self._kinds(cause for case in doubtful for cause in self._causes(case))
            yield self.text("all questionable", count=len(cases), kinds=kinds)

    def _uncompared(self) -> Iterator[str]:
        """Yield the runs of which no case can be used."""
        usable = {case.run.record.uid for case in self.advice.cases.candidates}
        names = [self.names.short(run) for run in self.advice.runs if run.timed and run.record.uid not in usable]
        if names:
            yield self.text("uncompared", names=self._listed(names))

    def _limits(self, chosen: Candidate) -> Iterator[str]:
        """Yield what limits the choice: p50 in place of p95, overlapping intervals, unknown quality."""
        advice, limit = self.advice, self.advice.bounds.latency_ms
        if advice.by == P50:
            yield self.text("by p50", calls=_calls([chosen]), needed=least_samples(0.95))
        if limit is not None and chosen.latency is not None and chosen.latency[1].contains(limit):
            low, high = (summary.text(end) for end in chosen.latency[1].ends)
            yield self.text("bound open", by=chosen.latency[0], low=low, high=high, limit=f"{limit:g}")
        if (faster := advice.faster_by_p50) is not None:
            values = ", ".join(self._values(faster))
            yield self.text("faster by p50", name=self.names.name(faster.run), batch=faster.batch_size, values=values)
        if advice.ties:
            yield self.text("ties", cases=self._listed(self._case(case) for case in advice.ties))
        elif len(advice.cases.eligible) > 1 and not advice.with_intervals:
            yield self.text("no intervals")
        if not advice.quality_known:
            yield from self._unknown_quality(chosen)

    def _unknown_quality(self, chosen: Candidate) -> Iterator[str]:
        yield self.text("quality unknown")
        reduced = dict.fromkeys(
            run.record.plan.precision for run in self.advice.runs if run.record.plan.precision != precisions.FULL
        )
        if reduced:
            random = all(run.record.settings.model.weights == "random" for run in self.advice.runs)
            key = "quality random" if random else "quality unmeasured"
            yield self.text(key, precisions=", ".join(reduced))
        if chosen.run.record.plan.precision != precisions.FULL and (full := self._full_precision()):
            values = ", ".join(self._values(full))
            yield self.text("full precision", name=self.names.name(full.run), batch=full.batch_size, values=values)

    def _full_precision(self) -> Candidate | None:
        """Return the choice among the fp32 runs of the task."""
        runs = [run for run in self.advice.runs if run.record.plan.precision == precisions.FULL]
        return next((advice.chosen for advice in choice.advise(runs, self.advice.bounds)), None)

    def _extreme(self, key: str, case: Candidate, **numbers: str) -> str:
        return self.text(key, name=self.names.name(case.run), batch=case.batch_size, **numbers) + self._mark(case)

    # ---------------------------------------------------------------------------------------------- the batch sizes
    def batch_sizes(self) -> Iterator[str]:
        """Yield the knee of each run, and the fastest run at each batch size."""
        for knee in self.advice.knees[:MOST_RUNS]:
            yield "; ".join(self._knee(knee)) + self._mark(knee.case)
        if (more := len(self.advice.knees) - MOST_RUNS) > 0:
            yield self.text("more runs", count=more)
        groups: dict[tuple[str, str], list[str]] = {}
        for one in self.advice.best_of_batch:
            ties = self._listed(self.names.short(case.run) for case in one.ties)
            mark = f" {MARKS[WARNED]}" if one.best.questionable else ""
            groups.setdefault((self.names.short(one.best.run), ties), []).append(f"{one.batch_size}{mark}")
        for (name, ties), sizes in groups.items():
            tied = [self.text("tied with", names=ties)] if ties else []
            yield "; ".join([self.text("best of batch", batch=", ".join(sizes), name=name), *tied])

    def _knee(self, knee: Knee) -> Iterator[str]:
        name, case = self.names.short(knee.case.run), knee.case
        if knee.sizes == 1:
            yield self.text("no knee", name=name, batch=case.batch_size, speed=_speed(case))
        elif case is knee.best:
            yield self.text("knee is best", name=name, batch=case.batch_size, speed=_speed(case))
        else:
            best = {"best": _speed(knee.best), "best_batch": knee.best.batch_size}
            share = f"{knee.share:.0%}"
            yield self.text("knee", name=name, batch=case.batch_size, speed=_speed(case), share=share, **best)
        if others := [size for size in knee.possible if size != case.batch_size]:
            yield self.text("knee open", sizes=", ".join(map(str, others)))
        if knee.at_end and knee.sizes > 1:
            yield self.text("knee at end")

    # -------------------------------------------------------------------------------------------------- the bounds
    def ladder(self) -> Iterator[str]:
        """Yield what each latency bound allows: the largest throughput from this latency on."""
        advice, cases = self.advice, self.advice.cases.eligible
        if len(advice.ladder) < 2:
            return
        without_p95 = [case for case in cases if case.p95 is None]
        if advice.ladder_by == P50 and without_p95:
            calls, needed = _calls(without_p95), least_samples(0.95)
            yield self.text("ladder by p50", count=len(without_p95), all=len(cases), calls=calls, needed=needed)
        for case in _spread(advice.ladder, MOST_STEPS):
            latency = choice.latency_of(case, advice.ladder_by)
            values = ", ".join([_speed(case), *([f"{_mib(case)} MiB"] if case.peak_mib else [])])
            name, batch = self.names.short(case.run), case.batch_size
            limit = summary.text(latency.value if latency else None)
            text = self.text("allows", latency=limit, by=advice.ladder_by, name=name, batch=batch, values=values)
            yield text + self._mark(case)

    # ------------------------------------------------------------------------------------------------ the left out
    def left_out(self) -> Iterator[str]:
        """Yield each reason for leaving out cases, with their number and names."""
        bounds, timed = self.advice.bounds, self.advice.cases.timed
        limits = {
            candidates.TOO_SLOW: bounds.latency_ms,
            candidates.NO_LATENCY: bounds.latency_ms,
            candidates.TOO_LARGE: bounds.memory_mib,
            candidates.NO_MEMORY: bounds.memory_mib,
        }
        for reason, kind, cases in candidates.grouped(self.advice.left_out):
            limit = limits.get(reason)
            detail = cases[0].detail.removeprefix(f"{kind}: ")
            if reason == NOT_MEASURED:
                detail = translations.reason(cases[0].row.reason, self.language)
            elif reason != INVALID_CASE:
                detail = self._listed(case.detail for case in cases)
            text = self.text(
                f"out {reason}",
                count=len(cases),
                all=timed,
                kind=self._cause(kind),
                detail=detail,
                limit="" if limit is None else f"{limit:g}",
                loss=_share(bounds.quality_loss),
            )
            if any(case.open for case in cases):
                text = f"{text}; {self.text('out open')}"
            yield self.text("out cases", text=text, cases=self._where(cases))

    def _where(self, cases: Sequence[LeftOut]) -> str:
        """Return the runs and batch sizes of cases, such as `fp32: 1, 2, 4; bf16: 4`."""
        sizes: dict[str, list[str]] = {}
        for case in cases:
            sizes.setdefault(self.names.short(case.run), []).append(str(case.row.case.batch_size))
        return self._listed((f"{name}: {', '.join(each)}" for name, each in sizes.items()), "; ")

    # ----------------------------------------------------------------------------------------------------- details
    def _values(self, case: Candidate) -> list[str]:
        """Return the numbers of a case: throughput, latency, memory, quality, and its doubts."""
        values = [_speed(case)]
        if case.latency is not None:
            values.append(f"{case.latency[0]} {summary.text(case.latency[1].value)} ms")
        values += [f"{_mib(case)} MiB"] if case.peak_mib else []
        shown, quality = headline(case.run), case.run.quality
        if shown and quality and case.quality is not None:
            values.append(
                f"{shown[0].heading(self.language)} {summary.quality_text(shown[0].name, quality.metrics.values)}"
            )
        return [*values, *self._doubts(case)]

    def _case(self, case: Candidate) -> str:
        name = self.names.short(case.run)
        return self.text("case", name=name, batch=case.batch_size, values=_speed(case) + self._mark(case))

    def _doubts(self, case: Candidate) -> list[str]:
        if not case.questionable:
            return []
        return [self.text("doubtful because", mark=MARKS[WARNED], kinds=", ".join(self._causes(case)))]

    def _causes(self, case: Candidate) -> list[str]:
        return list(dict.fromkeys(map(self._cause, _doubt_kinds(case))))

    def _mark(self, case: Candidate) -> str:
        return f" {MARKS[WARNED]}" if case.questionable else ""

    def _kinds(self, kinds: Iterable[str]) -> str:
        counted = Counter(kind.replace("_", " ") if kind in STATUSES else kind for kind in kinds)
        return ", ".join(
            self.text("one case" if count == 1 else "cases", kind=kind, count=count)
            for kind, count in counted.most_common()
        )

    def _listed(self, texts: Iterable[str], separator: str = ", ") -> str:
        """Return the distinct texts, at most MOST_CASES of them."""
        different = [text for text in dict.fromkeys(texts) if text]
        more = [f"… ({len(different)})"] if len(different) > MOST_CASES else []
        return separator.join([*different[:MOST_CASES], *more])


def _share(value: float) -> str:
    return f"{value * 100:.3g}%"


STATUSES = (OUT_OF_MEMORY, SKIPPED_AFTER_OOM)


def _doubt_kinds(case: Candidate) -> list[str]:
    quality = case.run.quality
    reasons = [*case.row.validity.reasons, *(quality.validity.reasons if quality and case.quality is not None else ())]
    return list(dict.fromkeys(reason.kind for reason in reasons))


def _speed(case: Candidate) -> str:
    return f"{summary.text(case.throughput.value)} {summary.unit(summary.throughput_name(case.run.timed))}"


def _mib(case: Candidate) -> str:
    return "–" if case.peak_mib is None else f"{case.peak_mib:,.0f}"


def _calls(cases: Sequence[Candidate]) -> str:
    """Return the number of calls of cases, as `6` or `6 to 40`."""
    counts = sorted({case.calls for case in cases if case.calls is not None})
    return "?" if not counts else str(counts[0]) if len(counts) == 1 else f"{counts[0]}–{counts[-1]}"


def _spread(cases: Sequence[Candidate], most: int) -> Sequence[Candidate]:
    """Return at most `most` of the cases, evenly spread, the first and the last one included."""
    if len(cases) <= most:
        return cases
    return [cases[round(index * (len(cases) - 1) / (most - 1))] for index in range(most)]


def remedies(run: Run, row: CaseResult) -> tuple[str, ...]:
    """Return the remedies for a case without numbers: keys of `translations.WORDS`."""
    keys = REMEDIES_BY_STATUS.get(row.status, ("try again",))
    if row.status in (OUT_OF_MEMORY, KILLED) and run.record.plan.device != "cpu":
        keys = (*keys, "try cpu")
    if row.case.batch_size == 1 or not row.case.timed:
        keys = tuple(key for key in keys if key != "try smaller")
    return keys
