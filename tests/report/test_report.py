"""The report: advice by rule, ratios to a baseline, figures, and the page and Markdown that they make."""

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest
from saved_runs import QUALITY, row, run

from visionbench.core import FAILED, KILLED, OUT_OF_MEMORY, Case, ConfigError, Samples
from visionbench.records.folder import RunFolder
from visionbench.registry import find
from visionbench.report import advice, document, drawing, page, relative, sweep_figures
from visionbench.report.translations import LANGUAGES, TASKS, WORDS, check
from visionbench.results.archive import Run


def timed(size, p50, p95=None, speed=None, **more):
    """A batch size that took so many ms."""
    case = Case(f"batch-{size}", size, ("latency",), ("latency",))
    speed = 1000 * size / p50 if speed is None else speed
    values = {"throughput_images_per_s": speed, "latency_p50_ms": p50, "memory_process_peak_mib": 100.0 + size}
    return row(case, **values, **({} if p95 is None else {"latency_p95_ms": p95}), **more)


def scored(value):
    return row(QUALITY, recall_t2i_at_1_fraction=value)


def only(runs, p95_ms=50.0, within=0.01):
    (found,) = advice.advise(runs, p95_ms, within)
    return found


def names(found):
    return None if found is None else (found.run.model, found.row.case.batch_size)


# -------------------------------------------------------------------------------------------------------------- advice
def test_the_largest_throughput_within_the_limit_is_chosen():
    runs = [run(timed(1, 5, 6), timed(8, 20, 49), timed(32, 60, 70), scored(0.9), name="one")]
    assert names(only(runs).chosen) == ("one", 8)
    assert names(only(runs, p95_ms=100).chosen) == ("one", 32)


def test_quality_below_the_best_of_the_task_is_not_chosen_however_fast():
    runs = [run(timed(1, 5, 6), scored(0.90), name="good"), run(timed(1, 1, 2), scored(0.88), name="quick")]
    assert names(only(runs).chosen) == ("good", 1)
    assert names(only(runs, within=0.05).chosen) == ("quick", 1)


def test_an_invalid_case_and_one_without_p95_are_never_chosen():
    runs = [run(timed(1, 5, 6), timed(2, 5, 6, verdict="invalid", reasons=("run_delay: 9 %",)), timed(4, 5))]
    assert names(only(runs).chosen) == ("clip_tiny", 1)
    assert not only(runs).quality_known


def test_where_nothing_is_quick_enough_the_nearest_is_named():
    found = only([run(timed(1, 90, 95), timed(2, 120, 130))])
    assert found.chosen is None
    assert names(found.nearest) == ("clip_tiny", 1)
    report = document.compose([run(timed(1, 90, 95))])
    task, lines = report.choices[0]
    assert task == "image-text retrieval"
    assert "no case meets the rule: the lowest p95 is 95 ms" in lines[0]
    assert not any("only speed decides" in line for line in lines)


def test_of_quality_that_was_not_measured_is_told_and_tasks_have_chinese_names():
    (choice,) = document.compose([run(timed(1, 5, 6))], "zh").choices
    assert choice[0] == "图文检索"
    assert "未测质量，仅按速度选择" in choice[1]
    families = ("dual_encoder", "promptable_segmenter", "captioner", "image_classifier")
    assert {find("models", family).task for family in families} == set(TASKS)


def test_the_front_is_what_no_other_point_beats_in_both():
    points = [(1, 9), (2, 8), (3, 8), (4, 5), (2, 3), (4, 4)]
    assert advice.frontier(points) == [(1, 9), (3, 8), (4, 5)]


def test_what_to_try_depends_on_what_happened():
    full = row(Case("batch-8", 8, (), ()), OUT_OF_MEMORY, "no room")
    on_gpu = run(full, kind="cuda:0")
    assert advice.remedies(on_gpu, full) == ("try smaller", "try lower", "try quantised", "try cpu")
    one = row(Case("batch-1", 1, (), ()), KILLED, "SIGKILL")
    assert "try smaller" not in advice.remedies(run(one), one)
    assert "try cpu" not in advice.remedies(run(one), one)
    broken = row(Case("batch-1", 1, (), ()), FAILED, "ValueError")
    assert advice.remedies(run(broken), broken) == ("try log",)


# ------------------------------------------------------------------------------------------------------------ relative
def test_each_run_is_set_beside_the_baseline_that_differs_only_in_what_was_named():
    runs = [
        run(timed(1, 10), name=model, precision=precision) for model in ("one", "two") for precision in ("fp32", "bf16")
    ]
    found = relative.relative(runs, {"precision": "fp32"})
    assert [(pair.run.model, pair.baseline.model) for pair in found] == [("one", "one"), ("two", "two")]
    assert {pair.baseline.record.plan.precision for pair in found} == {"fp32"}


def test_ratios_have_the_bounds_of_the_quotient_of_both_intervals():
    def with_ends(p50, low, high):
        ends = {"latency_p50_within_process_low_ms": low, "latency_p50_within_process_high_ms": high}
        return timed(1, p50, **ends)

    runs = [run(with_ends(10.0, 8.0, 16.0)), run(with_ends(5.0, 4.0, 6.0), precision="bf16")]
    (pair,) = relative.relative(runs, {"precision": "fp32"})
    assert pair.latency == relative.Ratio(0.5, 4 / 16, 6 / 8)
    assert pair.throughput == relative.Ratio(2.0)
    assert not pair.across


def test_a_baseline_that_is_not_there_or_not_one_is_refused():
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


def test_another_language_is_refused_with_those_there_are():
    with pytest.raises(ConfigError, match="report.language=zk: there is no report in this language; there are: en, zh"):
        check("zk", "report.language")


# ----------------------------------------------------------------------------------------------------------------- page
class Reader(HTMLParser):
    """What a page refers to, its text, and whether every element is closed."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img", "link"):
            self.open.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def saved(tmp_path):
    """Two runs on disk with raw samples, of which one case failed and one is doubted."""
    found = []
    for at, precision in enumerate(("fp32", "bf16")):
        rows = [
            timed(1, 5.0, 6.0, memory_weights_mib=2.0, memory_process_above_model_mib=30.0),
            timed(2, 7.0, 9.0, verdict="warned", reasons=("halves_differ: <b>4 %</b>",)),
            row(Case("batch-4", 4, (), ()), FAILED, "a|b <script>alert(1)</script>"),
            scored(0.9 - at / 100),
        ]
        written = run(*rows, precision=precision)
        folder = RunFolder.create(tmp_path / str(at), "model: {}\n")
        folder.write_record(written.record)
        for one in rows:
            folder.append(one, Samples({"latency/host_s": np.linspace(0.004, 0.006, 20)}))
        found.append(Run.read(folder))
    return found


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_needs_nothing_beside_it_and_tells_everything(saved, tmp_path, language):
    report = document.compose(saved, language, {"precision": "fp32"})
    paths = page.write(report, saved, tmp_path / "out")
    assert [path.name for path in paths[:2]] == ["report.html", "report.md"]
    assert all(path.is_file() for path in paths)
    text = paths[0].read_text()
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert reader.sources and all(source.startswith("data:image/svg+xml;base64,") for source in reader.sources)
    assert "http" not in re.sub(r"data:image[^\"]+", "", text)
    assert "<script" not in text and "<b>4" not in text
    told = " ".join(reader.text)
    for word in (
        "clip_tiny",
        "bf16",
        "a processor",
        "halves_differ",
        "alert(1)",
        WORDS["summary"][list(LANGUAGES).index(language)],
    ):
        assert word in told
    assert f'lang="{language}"' in text


def test_markdown_names_its_pictures_and_keeps_its_tables_whole(saved, tmp_path):
    paths = page.write(document.compose(saved), saved, tmp_path)
    text = paths[1].read_text()
    linked = re.findall(r"\]\((.+?)\)", text)
    assert linked and all((tmp_path / name).is_file() for name in linked)
    assert {tmp_path / name for name in linked} == set(paths[2:])
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1
    assert "a\\|b" in text


def test_numbers_of_the_summary_are_those_of_the_rows(saved):
    grid = document.compose(saved).summary
    first, second, failed = grid.rows[:3]
    assert first[3:] == ["1", "valid", "5", "6", "200 images/s", "101", "t→i R@1 0.9"]
    assert second[4] == "? warned"
    assert failed[4] == "failed"
    assert len(grid.rows) == 6


def test_the_same_model_has_the_same_colour_in_every_sweep_of_these_models(saved):
    palette = sweep_figures.colours([run(timed(1, 1), name=name) for name in ("b", "a", "c")])
    assert list(palette) == ["a", "b", "c"]
    assert len(set(palette.values())) == 3


def test_figures_are_vector_graphics_with_their_units(saved, tmp_path):
    with drawing.styled():
        sections = [section for section, _, _ in sweep_figures.figures(saved, "en")]
    assert sections == ["curves", "curves", "distribution", "distribution", "memory", "tradeoff"]
    found = {section: figure for section, _, figure in sweep_figures.figures(saved, "en")}
    with drawing.styled():
        drawing.write_png(found["memory"], tmp_path / "memory.png")
        root = ElementTree.fromstring(drawing.svg(found["memory"]))
    assert "MiB" in "".join(root.itertext())
    assert (tmp_path / "memory.png").read_bytes()[:4] == b"\x89PNG"


def test_of_very_many_runs_some_are_drawn_and_the_page_says_so(tmp_path):
    many = [run(timed(1, 5.0 + at, 6.0 + at), name=f"m{at}") for at in range(30)]
    report = document.compose(many)
    assert len(report.summary.rows) == 30
    paths = page.write(report, many, tmp_path)
    assert f"The figures show {sweep_figures.MOST_CURVES} of 30 runs" in paths[1].read_text()


def test_nothing_measured_is_told_in_one_line():
    with pytest.raises(ConfigError, match="no run to report on; measure something first"):
        document.compose([])
