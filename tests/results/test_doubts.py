"""The doubts about several cases in one sentence: counts, causes, the next step."""

import pytest
from saved_runs import row

from visionbench.results.doubts import CAUSES, Doubts, retries


def doubted(*reasons, verdict="warned"):
    return row(verdict=verdict, reasons=reasons, latency_p50_ms=1.0)


def sentence(*rows):
    return Doubts.of(rows).sentence()


def test_without_doubts_there_is_no_sentence():
    assert sentence(row(latency_p50_ms=1.0)) == ""
    assert sentence() == ""


def test_one_cause_has_one_sentence_with_the_next_step():
    rows = [doubted("run_delay: threads waited")] * 27 + [row(latency_p50_ms=1.0)] * 5
    assert sentence(*rows) == (
        "27 of 32 cases are questionable: other programs used the cores; end them, check with 'visionbench doctor', "
        "and measure again"
    )


def test_several_causes_have_their_counts_and_the_most_frequent_one_gives_the_next_step():
    rows = [doubted("autocorrelated: 0.4", "halves_differ: 3 %"), doubted("autocorrelated: 0.3"), doubted("steal: 4 %")]
    text = sentence(*rows)
    assert text.startswith(
        "all 3 cases are questionable: the call times were not steady (2), "
        "the hypervisor gave the cores to other virtual machines (1); "
    )
    assert text.endswith("measure with measure=standard or measure.repeats=5")


def test_invalid_and_questionable_cases_are_counted_separately():
    rows = [doubted("run_delay: 9 %", verdict="invalid"), doubted("run_delay: 3 %"), doubted("run_delay: 3 %")]
    assert sentence(*rows).startswith("1 of 3 cases is invalid and 2 questionable: other programs used the cores; ")
    assert sentence(rows[0]).startswith("the only case is invalid: ")


def test_a_case_without_numbers_is_no_case_of_the_sentence():
    assert sentence(row(status="failed", reason="x"), doubted("steal: 4 %")).startswith("the only case is questionable")


def test_an_unknown_reason_is_its_own_cause():
    assert sentence(doubted("cosmic_rays: two")) == (
        "the only case is questionable: cosmic rays; see cosmic_rays in visionbench docs faults"
    )


def test_no_reason_has_two_causes():
    kinds = [kind for cause in CAUSES for kind in cause.kinds]
    assert len(kinds) == len(set(kinds))


@pytest.mark.parametrize(
    ("labels", "count"),
    [
        ({}, 0),
        ({"protocol": "quick"}, 0),
        ({"latency_retried": "attempt 1: run_delay: x"}, 1),
        ({"latency_retried_of_process_2": "attempt 1: run_delay: x"}, 1),
        ({"latency_retried": "attempt 1: a; attempt 2: b", "throughput_retried": "attempt 1: a"}, 3),
    ],
)
def test_retried_windows_are_counted(labels, count):
    from dataclasses import replace

    assert retries([replace(row(), labels=labels), row()]) == count
