"""The figures of a report: which runs are drawn, how, with which labels, axes and legends."""

import re
from itertools import combinations

import many_runs
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.text import Annotation
from saved_runs import QUALITY, row, run

from visionbench.core import Case
from visionbench.report import drawing, labels, page, selection, svg, sweep_figures
from visionbench.results import archive


@pytest.fixture(scope="module", params=list(many_runs.SWEEPS))
def sweep(request, tmp_path_factory):
    """The runs of each fabricated sweep."""
    return many_runs.SWEEPS[request.param](tmp_path_factory.mktemp(request.param))


def drawn(runs, section):
    return [each for each in sweep_figures.figures(runs, "en") if each.section == section]


def scored(name, speed, quality, verdict="valid", **more):
    """Return a run with one throughput and one quality."""
    timed = row(
        Case("batch-1", 1, ("latency",), ("latency",)),
        verdict=verdict,
        throughput_images_per_s=float(speed),
        latency_p50_ms=1000.0 / speed,
    )
    return run(timed, row(QUALITY, recall_t2i_at_1_fraction=quality), name=name, **more)


def labels_of(figure):
    return [text for text in figure.axes[0].texts if isinstance(text, Annotation)]


def visible_ticks(axis, coordinate):
    """Return the labels of an axis. A locator also makes ticks outside the limits, which are not drawn."""
    low, high = axis.get_view_interval()
    low, high = min(low, high), max(low, high)
    return [
        tick for tick in axis.get_ticklabels() if tick.get_text() and low <= tick.get_position()[coordinate] <= high
    ]


def boxes(figure, texts):
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    return [text.get_window_extent(renderer) for text in texts]


# ----------------------------------------------------------------------------------------------------- every figure
def test_no_label_overlaps_another_and_all_texts_are_inside_the_figure(sweep):
    for each in sweep_figures.figures(sweep, "en"):
        axes = each.figure.axes[0]
        with drawing.styled():
            placed = boxes(each.figure, labels_of(each.figure))
            ticks = [*visible_ticks(axes.xaxis, 0), *visible_ticks(axes.yaxis, 1)]
            legends = [text for legend in each.figure.legends for text in legend.get_texts()]
            every = boxes(each.figure, [*ticks, *legends, *axes.texts, axes.xaxis.label, axes.yaxis.label])
        assert not any(one.overlaps(other) for one, other in combinations(placed, 2)), each.title
        for box in every:
            assert each.figure.bbox.x0 - 1 <= box.x0 and box.x1 <= each.figure.bbox.x1 + 1, each.title
            assert each.figure.bbox.y0 - 1 <= box.y0 and box.y1 <= each.figure.bbox.y1 + 1, each.title


def test_long_names_and_legends_leave_the_axes_their_size(sweep):
    for each in sweep_figures.figures(sweep, "en"):
        axes = each.figure.axes[0]
        with drawing.styled():
            each.figure.draw_without_rendering()
        width, height = axes.bbox.width / each.figure.dpi, axes.bbox.height / each.figure.dpi
        assert width > 0.7 * each.figure.get_size_inches()[0], each.title
        assert height > (0.3 if each.section in ("memory", "stages") else 1.5), each.title


def test_axes_have_titles_and_no_throughput_below_zero(sweep):
    for each in sweep_figures.figures(sweep, "en"):
        axes = each.figure.axes[0]
        assert axes.get_xlabel()
        assert axes.get_ylabel() or each.section in ("memory", "stages")
        assert axes.get_xlim()[0] >= 0
        if each.section == "tradeoff":
            assert "/s)" in axes.get_xlabel()


def test_each_figure_has_the_runs_of_one_task(tmp_path):
    runs = many_runs.tasks(tmp_path)
    curves = drawn(runs, "curves")
    assert len(curves) == 2 * len(many_runs.TASKS)
    assert {(each.drawn, each.available) for each in curves} == {(4, 4)}
    assert [each.title.partition(":")[0] for each in curves[::2]] == list(many_runs.TASKS)
    assert len(drawn(runs, "tradeoff")) == 4


# ------------------------------------------------------------------------------------------------------ selected runs
def test_the_fastest_of_each_model_and_the_front_are_drawn_before_other_runs():
    runs = [scored("a", speed, 0.5) for speed in range(10, 30)]
    runs += [scored("b", 5, 0.6), scored("a", 8, 0.9)]
    shown = selection.choose(sweep_figures.series(runs), 3)
    assert [(one.run.model, one.throughput) for one in shown] == [("a", 29.0), ("b", 5.0), ("a", 8.0)]


def test_invalid_runs_are_drawn_last_and_are_not_on_the_front():
    runs = [scored("a", 100, 0.9, verdict="invalid"), scored("a", 10, 0.5), scored("a", 20, 0.4)]
    known = sweep_figures.series(runs)
    assert [one.throughput for one in selection.front(known)] == [10.0, 20.0]
    assert [one.throughput for one in selection.choose(known, 2)] == [10.0, 20.0]


def test_the_caption_has_the_number_of_runs_that_are_drawn(tmp_path):
    runs = many_runs.thirty(tmp_path)
    for each in drawn(runs, "curves"):
        assert (each.drawn, each.available) == (sweep_figures.MOST_CURVES, 30)
    assert {each.drawn for each in drawn(runs, "tradeoff")} == {30}


def test_the_colour_of_a_model_does_not_depend_on_the_order_of_the_runs():
    def of_models(names):
        runs = [scored(name, 1, 0.5) for name in names]
        return {one.model: style for one, style in zip(runs, selection.styles(runs), strict=True)}

    first, second = of_models("bac"), of_models("cab")
    assert first == second
    assert len({style.colour for style in first.values()}) == len({style.shape for style in first.values()}) == 3


def test_runs_of_one_model_have_different_colours_lines_and_marks():
    styles = selection.styles([scored("a", speed, 0.5) for speed in (1, 2, 3, 4)])
    for values in zip(*((style.colour, style.line, style.shape) for style in styles), strict=True):
        assert len(set(values)) == 4


def test_every_colour_has_a_contrast_of_three_to_one_on_both_backgrounds():
    def luminance(colour):
        parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))

    for scheme in (0, 1):
        paper = luminance(drawing.THEME["paper"][scheme])
        for name, colours in drawing.THEME.items():
            if name not in ("paper", "line"):
                light, dark = sorted([luminance(colours[scheme]), paper], reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 3, name


# ----------------------------------------------------------------------------------------------- quality against speed
def marks(figure):
    """Return the marker and the fill of each point that has a tooltip."""
    lines = [line for line in figure.axes[0].lines if (line.get_gid() or "").startswith(drawing.TIP)]
    return {line.get_gid().removeprefix(drawing.TIP).split(":")[0]: line for line in lines}


def test_invalid_and_questionable_points_have_their_own_marks_and_a_legend():
    runs = [scored(name, 10 * index, 0.5, name) for index, name in enumerate(("valid", "warned", "invalid"), 1)]
    (each,) = drawn(runs, "tradeoff")
    points = marks(each.figure)
    assert points["invalid"].get_marker() == "X"
    assert points["warned"].get_markerfacecolor() == drawing.PAPER
    assert points["valid"].get_markerfacecolor() == points["valid"].get_color()
    (legend,) = each.figure.legends
    assert {"valid", "questionable", "invalid"} <= {text.get_text() for text in legend.get_texts()}


def test_few_points_have_direct_labels_and_no_legend():
    (each,) = drawn([scored("first", 10, 0.5), scored("second", 30, 0.7)], "tradeoff")
    assert {text.get_text() for text in labels_of(each.figure)} == {"first", "second"}
    assert not each.figure.legends and not each.note


def test_a_legend_replaces_labels_that_do_not_fit():
    runs = [scored(f"model_with_a_long_name_{index}", 10 + index / 100, 0.5) for index in range(6)]
    (each,) = drawn(runs, "tradeoff")
    (legend,) = each.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [one.model for one in runs]
    assert not labels_of(each.figure)


def test_the_tooltip_of_a_point_has_the_complete_name(tmp_path):
    (each,) = drawn(many_runs.thirty(tmp_path), "tradeoff")
    tips = list(marks(each.figure))
    assert len(tips) == 30
    assert f"{many_runs.LONGEST} · fp32" in tips


def test_the_limits_of_the_axes_do_not_exceed_possible_values():
    (each,) = drawn([scored("a", 1, 0.99), scored("b", 90, 1.0)], "tradeoff")
    axes = each.figure.axes[0]
    assert axes.get_xscale() == "log" and axes.get_xlim()[0] > 0
    assert all(0 <= tick <= 1 for tick in axes.get_yticks())
    (each,) = drawn([scored("a", 1, 0.01), scored("b", 5, 0.02)], "tradeoff")
    assert each.figure.axes[0].get_xscale() == "linear" and each.figure.axes[0].get_xlim()[0] >= 0


# ------------------------------------------------------------------------------------------------------ sweeps by name
@pytest.mark.parametrize(
    ("sweep_of", "names"),
    [
        (many_runs.threads, [f"threads {count}" for count in (1, 2, 3, 4, 5)]),
        (many_runs.attention, ["attention eager", "attention sdpa", "attention flash_attention_2"]),
        (many_runs.image_size, ["image size 224", "image size 336", "image size 448"]),
    ],
)
def test_runs_of_a_sweep_are_labelled_by_what_differs(sweep_of, names, tmp_path):
    runs = sweep_of(tmp_path)
    for each in (*drawn(runs, "curves"), *drawn(runs, "tradeoff")):
        legends = [text.get_text() for legend in each.figure.legends for text in legend.get_texts()]
        assert set(names) <= {*legends, *(text.get_text() for text in labels_of(each.figure))}
    assert [each.title for each in drawn(runs, "distribution")] == names


# --------------------------------------------------------------------------------------------------------------- files
def test_a_long_name_keeps_both_ends():
    assert labels.shorten("short", 10) == "short"
    name = labels.shorten(f"{many_runs.LONGEST} · cpu · bf16", 42)
    assert len(name) <= 42
    assert name.startswith("vision_transformer") and name.endswith("cpu · bf16")


def test_the_svg_of_the_page_has_variable_colours_tooltips_and_unique_ids():
    (each,) = drawn([scored("<a>", 10, 0.125), scored("b", 30, 0.7)], "tradeoff")
    with drawing.styled():
        data = drawing.svg(each.figure)
    first, second = svg.inline(data, "one", "a <title>"), svg.inline(data, "two", "other")
    assert not re.findall(r"(?:fill|stroke): #", first)
    assert "var(--series-1)" in first and "var(--paper)" in first
    assert "<title>&lt;a&gt;: t→i R@1 0.125, 10 images/s (valid)</title>" in first
    assert 'aria-label="a &lt;title&gt;"' in first and "font-family" not in first and "http" not in first
    ids = [set(re.findall(r' id="([^"]+)"', text)) for text in (first, second)]
    assert ids[0] and not ids[0] & ids[1]
    assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', first)) <= ids[0]


def test_a_missing_chinese_font_is_reported_in_one_line_with_a_package(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(drawing, "chinese_font", lambda: None)
    page.write_report([scored("a", 1, 0.5)], "zh", tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert "no font with Chinese characters is installed" in line and "apt-get install fonts-noto-cjk" in line
    page.write_report([scored("a", 1, 0.5)], "en", tmp_path)
    assert not capsys.readouterr().err


def test_a_font_that_was_installed_after_the_list_of_fonts_was_made_is_found(monkeypatch, tmp_path):
    from matplotlib import font_manager

    files = tmp_path / "NotoSansCJK-Regular.ttc", tmp_path / "other.ttf"
    added = []
    names = iter([None, "Noto Sans CJK JP"])
    monkeypatch.setattr(drawing, "_known_chinese_font", lambda: next(names))
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(file) for file in files])
    monkeypatch.setattr(font_manager.fontManager, "addfont", added.append)
    assert drawing.chinese_font.__wrapped__() == "Noto Sans CJK JP"
    assert added == [str(files[0])]


def test_all_sweeps_are_read_from_disk(tmp_path):
    runs = many_runs.failed(tmp_path)
    assert [one.name for one in archive.of_folder(tmp_path)] == [one.name for one in runs]
