"""The report: recommendations by rule, ratios to a baseline, figures, the HTML page and the Markdown file."""

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest
from saved_runs import QUALITY, row, run

from visionbench.core import FAILED, KILLED, LOST, OUT_OF_MEMORY, Case, ConfigError, Samples
from visionbench.records.folder import RunFolder
from visionbench.registry import find, names
from visionbench.report import advice, advice_words, document, drawing, page, sweep_figures, translations
from visionbench.report.translations import LANGUAGES, PAGE_WORDS, TASKS, WORDS, check
from visionbench.results import missing, relative
from visionbench.results.advice import choice
from visionbench.results.advice.candidates import Bounds
from visionbench.results.archive import NEVER_STARTED, Run
from visionbench.results.naming import Names


def timed(size, p50, p95=None, speed=None, **more):
    """Return the row of a batch size with this latency in ms."""
    case = Case(f"batch-{size}", size, ("latency",), ("latency",))
    speed = 1000 * size / p50 if speed is None else speed
    values = {"throughput_images_per_s": speed, "latency_p50_ms": p50, "memory_process_peak_mib": 100.0 + size}
    return row(case, **values, **({} if p95 is None else {"latency_p95_ms": p95}), **more)


def scored(value):
    return row(QUALITY, recall_t2i_at_1_fraction=value)


def only_advice(runs, p95_ms=50.0, within=0.01):
    (one,) = choice.advise(runs, Bounds(p95_ms, None, within))
    return one


def model_and_batch(candidate):
    return None if candidate is None else (candidate.run.model, candidate.row.case.batch_size)


# -------------------------------------------------------------------------------------------------------------- advice
def test_the_case_with_the_largest_throughput_within_the_limit_is_chosen():
    runs = [run(timed(1, 5, 6), timed(8, 20, 49), timed(32, 60, 70), scored(0.9), name="one")]
    assert model_and_batch(only_advice(runs).chosen) == ("one", 8)
    assert model_and_batch(only_advice(runs, p95_ms=100).chosen) == ("one", 32)


def test_a_fast_case_is_not_chosen_if_its_quality_is_below_the_best_of_the_task():
    runs = [run(timed(1, 5, 6), scored(0.90), name="good"), run(timed(1, 1, 2), scored(0.88), name="quick")]
    assert model_and_batch(only_advice(runs).chosen) == ("good", 1)
    assert model_and_batch(only_advice(runs, within=0.05).chosen) == ("quick", 1)


def test_an_invalid_case_and_a_case_without_p95_are_not_chosen():
    runs = [run(timed(1, 5, 6), timed(2, 5, 6, verdict="invalid", reasons=("run_delay: 9 %",)), timed(4, 5))]
    assert model_and_batch(only_advice(runs).chosen) == ("clip_tiny", 1)
    assert not only_advice(runs).quality_known


def test_if_no_case_is_within_the_limit_the_nearest_is_named():
    one = only_advice([run(timed(1, 90, 95), timed(2, 120, 130))])
    assert one.chosen is None
    assert model_and_batch(one.nearest) == ("clip_tiny", 1)
    report = document.compose([run(timed(1, 90, 95))], bounds=Bounds(latency_ms=50))
    task, ((_, lines), *_) = report.choices[0]
    assert task == "image-text retrieval"
    assert "no case meets the rule: the lowest p95 is 95 ms" in lines[0]
    assert not any("only speed decides" in line for line in lines)


def test_the_bounds_and_the_next_commands_are_in_the_report():
    report = document.compose([run(timed(1, 5, 6), timed(2, 8, 9), timed(4, 9, 9.5, verdict="invalid"))])
    ((_, sections),) = report.choices
    lines = dict(sections)
    assert lines["What a latency bound allows"][0].startswith("p95 of 6 ms or more")
    assert lines["Cases that were left out"][0].startswith("1 of 3: invalid")
    assert any("visionbench run" in line and "measure=standard" in line for line in report.next_commands)


def test_unmeasured_quality_is_stated_and_tasks_have_chinese_names():
    (choice,) = document.compose([run(timed(1, 5, 6))], "zh").choices
    assert choice[0] == "图文检索"
    assert "未测质量，仅按速度选择" in choice[1][0][1]
    families = set(names("models")) - {"generic"}
    shipped = [find("models", family) for family in families]
    assert {one.task for one in shipped if one.__module__.startswith("visionbench.")} == set(TASKS)


def test_the_frontier_has_the_points_that_no_other_point_exceeds_in_both_coordinates():
    points = [(1, 9), (2, 8), (3, 8), (4, 5), (2, 3), (4, 4)]
    assert advice.frontier(points) == [(1, 9), (3, 8), (4, 5)]


def test_the_remedy_for_a_lost_case_is_the_command_that_continues_its_sweep():
    lost = run(row(Case("batch-1", 1, (), ()), LOST, "the run never started"))
    (line,) = document._failures([lost], Names.of([lost]), "en")
    assert line.endswith(f"lost, the run never started · try: visionbench run resume={lost.sweep}")


def test_missing_results_are_stated_in_the_language_of_the_report():
    planned = row(Case("batch-1", 1, (), ()), LOST, NEVER_STARTED)
    runs = [run(timed(1, 5, 6)), *(run(planned, name=f"m{number}", status="lost") for number in range(4))]
    remarks = {language: list(document._remarks(runs, language)) for language in ("en", "zh")}
    names = [f"m{number} · cpu · fp32" for number in range(3)]
    assert remarks["en"][0] == f"4 of 5 runs never started: {', '.join(names)}, 1 more"
    assert remarks["zh"][0] == f"5 次运行中有 4 次从未开始：{'、'.join(names)}，另有 1 次"
    assert "lost, 该运行从未开始" in next(document._failures(runs, Names.of(runs), "zh"))
    sections = [section for _, choice in document.compose(runs, "zh").choices for section in choice]
    assert any("lost；该运行从未开始" in line for _, lines in sections for line in lines)


def test_every_kind_of_missing_results_has_a_chinese_sentence():
    for kind in (missing.NEVER, missing.ABSENT, missing.ENDED, missing.CASES, missing.UNFINISHED, missing.ELSEWHERE):
        gap = missing.Gap(kind, ("m0", "m1"), 5, 3)
        assert translations.gap(gap, "en") == gap.sentence()
        text = translations.gap(gap, "zh")
        assert not re.search("[a-z]{2,}", text)
        assert ("m0、m1" in text) == ("m0" in gap.sentence())


def test_the_remedies_depend_on_the_status():
    full = row(Case("batch-8", 8, (), ()), OUT_OF_MEMORY, "no room")
    on_gpu = run(full, kind="cuda:0")
    assert advice.remedies(on_gpu, full) == ("try smaller", "try lower", "try quantised", "try cpu")
    one = row(Case("batch-1", 1, (), ()), KILLED, "SIGKILL")
    assert "try smaller" not in advice.remedies(run(one), one)
    assert "try cpu" not in advice.remedies(run(one), one)
    broken = row(Case("batch-1", 1, (), ()), FAILED, "ValueError")
    assert advice.remedies(run(broken), broken) == ("try log",)


# ------------------------------------------------------------------------------------------------------------ relative
def test_the_baseline_of_a_run_differs_only_in_the_named_facts():
    runs = [
        run(timed(1, 10), name=model, precision=precision) for model in ("one", "two") for precision in ("fp32", "bf16")
    ]
    pairs = relative.relative(runs, {"precision": "fp32"})
    assert [(pair.run.model, pair.baseline.model) for pair in pairs] == [("one", "one"), ("two", "two")]
    assert {pair.baseline.record.plan.precision for pair in pairs} == {"fp32"}


def test_in_a_sweep_over_another_key_the_baseline_has_the_same_value_of_it():
    def with_threads(count, precision):
        return run(timed(1, 10), precision=precision, config={"device": {"threads": count}})

    runs = [with_threads(count, precision) for precision in ("fp32", "bf16") for count in (1, 2)]
    pairs = relative.relative(runs, {"precision": "fp32"})
    assert [(pair.run, pair.baseline) for pair in pairs] == [(runs[2], runs[0]), (runs[3], runs[1])]


def test_the_bounds_of_a_ratio_are_those_of_the_quotient_of_both_intervals():
    def with_ends(p50, low, high):
        ends = {"latency_p50_within_process_low_ms": low, "latency_p50_within_process_high_ms": high}
        return timed(1, p50, **ends)

    runs = [run(with_ends(10.0, 8.0, 16.0)), run(with_ends(5.0, 4.0, 6.0), precision="bf16")]
    (pair,) = relative.relative(runs, {"precision": "fp32"})
    assert pair.latency == relative.Ratio(0.5, 4 / 16, 6 / 8)
    assert pair.throughput == relative.Ratio(2.0)
    assert not pair.across


def test_a_missing_or_ambiguous_baseline_is_refused():
    runs = [run(timed(1, 10)), run(timed(1, 10)), run(timed(1, 10), precision="bf16")]
    with pytest.raises(ConfigError, match="no run of the sweep matches; the runs are: clip_tiny"):
        relative.relative(runs, {"model": "other"})
    with pytest.raises(ConfigError, match="2 runs match clip_tiny · cpu · bf16"):
        relative.relative(runs, {"precision": "fp32"})


# ---------------------------------------------------------------------------------------------------------------- words
def test_every_text_has_both_languages_and_the_same_fields():
    for key, texts in WORDS.items():
        assert len(texts) == len(LANGUAGES) and all(texts), key
        fields = [sorted(re.findall(r"\{(\w+)\}", text)) for text in texts]
        assert fields[0] == fields[1], key


def test_an_unknown_language_is_refused_with_the_known_languages():
    with pytest.raises(ConfigError, match="report.language=zk: there is no report in this language; there are: en, zh"):
        check("zk", "report.language")


# ----------------------------------------------------------------------------------------------------------------- page
class Reader(HTMLParser):
    """A parser that collects the addresses and the text of a page, and checks that every element is closed."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.ids, self.text = [], [], [], []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img", "link", "input"):
            self.open.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def saved(tmp_path):
    """Two runs on disk with raw samples, each with a failed and a questionable case."""
    runs = []
    for index, precision in enumerate(("fp32", "bf16")):
        rows = [
            timed(1, 5.0, 6.0, memory_weights_mib=2.0, memory_process_above_model_mib=30.0),
            timed(2, 7.0, 9.0, verdict="warned", reasons=("halves_differ: <b>4 %</b>",)),
            row(Case("batch-4", 4, (), ()), FAILED, "a|b <script>alert(1)</script>"),
            scored(0.9 - index / 100),
        ]
        written = run(*rows, precision=precision)
        folder = RunFolder.create(tmp_path / str(index), "model: {}\n")
        folder.write_record(written.record)
        for one in rows:
            folder.append(one, Samples({"latency/host_s": np.linspace(0.004, 0.006, 20)}))
        runs.append(Run.read(folder))
    return runs


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_needs_no_other_file_and_escapes_the_texts_of_results(saved, tmp_path, language):
    report = document.compose(saved, language, {"precision": "fp32"})
    paths = page.write(report, saved, tmp_path / "out")
    assert [path.name for path in paths[:2]] == ["report.html", "report.md"]
    assert all(path.is_file() for path in paths)
    text = paths[0].read_text()
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert reader.sources and {source.removeprefix("#") for source in reader.sources} <= set(reader.ids)
    assert len(reader.ids) == len(set(reader.ids))
    assert "http" not in text and "@import" not in text and "url(" not in re.sub(r"url\(#", "", text)
    assert text.count("<svg") == len(paths) - 2
    assert text.count("<script") == 1 and "<script>alert" not in text and "<b>4" not in text
    content = " ".join(reader.text)
    for word in (
        "clip_tiny",
        "bf16",
        "a processor",
        "halves_differ",
        "alert(1)",
        WORDS["summary"][list(LANGUAGES).index(language)],
    ):
        assert word in content
    assert f'lang="{language}"' in text


def test_the_markdown_links_every_figure_and_its_tables_have_equal_rows(saved, tmp_path):
    paths = page.write(document.compose(saved), saved, tmp_path)
    text = paths[1].read_text()
    linked = re.findall(r"\]\((.+?)\)", text)
    assert linked and all((tmp_path / name).is_file() for name in linked)
    assert {tmp_path / name for name in linked} == set(paths[2:])
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1
    assert "a\\|b" in text


def test_the_summary_has_the_numbers_of_the_rows(saved):
    grid = document.compose(saved).summary
    first, second, failed = grid.rows[:3]
    assert first[3:] == ["1", "valid", "5", "6", "200 images/s", "101", "t→i R@1 0.9"]
    assert second[4] == "? questionable"
    assert failed[4] == "failed"
    assert len(grid.rows) == 6


def test_a_second_unit_of_throughput_has_no_column_beside_the_fixed_one():
    case = row(throughput_images_per_s=10.0, throughput_texts_per_s=50.0, latency_p50_ms=5.0, latency_p95_ms=6.0)
    headings = document.compose([run(case)]).summary.headings
    assert headings[-3:] == ["throughput", "peak memory, MiB", "quality"]


def test_figures_are_svg_and_png_with_units(saved, tmp_path):
    with drawing.styled():
        sections = [each.section for each in sweep_figures.figures(saved, "en")]
    assert sections == ["curves", "curves", "distribution", "distribution", "memory", "tradeoff"]
    by_section = {each.section: each.figure for each in sweep_figures.figures(saved, "en")}
    with drawing.styled():
        drawing.write_png(by_section["memory"], tmp_path / "memory.png")
        root = ElementTree.fromstring(drawing.svg(by_section["memory"]))
    assert "MiB" in "".join(root.itertext())
    assert (tmp_path / "memory.png").read_bytes()[:4] == b"\x89PNG"


def test_figures_of_many_runs_show_only_some_and_the_page_states_it(tmp_path):
    many = [run(timed(1, 5.0 + index, 6.0 + index), name=f"m{index}") for index in range(30)]
    report = document.compose(many)
    assert len(report.summary.rows) == 30
    paths = page.write(report, many, tmp_path)
    assert f"{sweep_figures.MOST_CURVES} of 30 runs are drawn" in paths[1].read_text()


def test_a_report_without_runs_is_refused_in_one_line():
    with pytest.raises(ConfigError, match="no run to report on; measure something first"):
        document.compose([])


def test_no_text_of_the_page_replaces_a_text_of_the_advice():
    assert not set(PAGE_WORDS) & set(advice_words.WORDS)
