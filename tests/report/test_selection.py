"""The runs that the tables of a report list: all of a few, and the most important ones of many."""

from saved_runs import BATCH, row, run

from visionbench.core import FAILED, Case
from visionbench.report import document, selection
from visionbench.report.translations import translate


def speeds(count, **more):
    return [run(row(throughput_images_per_s=float(1 + number)), **more) for number in range(count)]


def test_a_few_runs_are_all_listed_in_their_order():
    runs = speeds(selection.MOST_RUNS)
    assert selection.listed(runs) == runs


def test_a_report_of_many_runs_lists_the_fastest_of_each_model_and_then_the_fastest_ones():
    runs = [*speeds(300), *speeds(1, name="slow")]
    listed = selection.listed(runs)
    assert listed == [*runs[101:300], runs[300]]


def test_each_task_has_a_share_of_the_listed_runs():
    runs = [*speeds(300), *speeds(300, plan={"task": "image captioning"})]
    tasks = [each.record.plan.task for each in selection.listed(runs)]
    assert tasks.count("image captioning") == selection.MOST_RUNS / 2


def test_the_number_of_cases_is_limited_but_one_run_is_always_listed():
    rows = [
        row(Case(f"batch-{size}", size, (), ()), throughput_images_per_s=1e6)
        for size in range(1, selection.MOST_ROWS + 200)
    ]
    assert len(selection.listed([run(*rows), *speeds(2)])) == 1


def test_a_report_of_many_runs_states_how_many_it_lists_and_counts_all():
    runs = [*speeds(300), *(run(row(BATCH, FAILED, f"reason {number}")) for number in range(document.MOST_LINES + 30))]
    report = document.compose(runs)
    known = {"shown": selection.MOST_RUNS, "all": len(runs), "rows": selection.MOST_RUNS, "cases": len(runs)}
    assert report.remarks[0] == translate("listed", "en", **known)
    assert len(report.summary.rows) == len(report.conditions.rows) == selection.MOST_RUNS
    assert len(report.failures) == document.MOST_LINES + 1
    assert report.failures[-1] == "… and 30 more"


def test_a_report_of_a_few_runs_has_no_such_remark():
    assert not any("visionbench export" in line for line in document.compose(speeds(3)).remarks)
