"""Published figures: the file, the choice of the nearest figure, its scale, and the check of implausible figures."""

import csv
import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
from saved_runs import QUALITY, row, run

from visionbench.core import Case, ConfigError
from visionbench.report import document, published
from visionbench.report.published import KINDS, PEAK, PRECISIONS, SIZE, SPEED
from visionbench.report.published import QUALITY as PUBLISHED_QUALITY
from visionbench.results.archive import Run
from visionbench.results.declared import bundled

ROOT = Path(__file__).parents[2]
H100 = "NVIDIA H100 80GB HBM3"
WORK = 14.777
"""The work of an image and a text in CLIP ViT-B/32, in GFLOP."""


def timed(size, speed, **more):
    values = {"throughput_images_per_s": float(speed), **more}
    return row(Case(f"batch-{size}", size, ("throughput",), ("throughput",)), **values)


def measured(*rows, device=H100, name="clip_vit_b32", part="both", precision="bf16", **more):
    """Return a run with random weights on this device."""
    config = {"model": {"name": name, "options": {"part": part} if part else {}, "weights": "random"}}
    return run(
        *rows, name=name, kind="cuda", precision=precision, device={"device_name": device}, config=config, **more
    )


def only(one):
    (comparison,) = published.comparisons([one])
    return comparison


# ---------------------------------------------------------------------------------------------------------------- file
def test_every_figure_has_a_source_a_known_model_and_a_known_metric():
    models = {path.stem for path in (ROOT / "conf" / "model").glob("*.yaml")}
    data = {path.stem for path in (ROOT / "conf" / "data").glob("*.yaml")}
    for one in published.figures():
        assert one.source.startswith("https://"), one
        assert one.kind in KINDS
        if one.kind == PEAK:
            assert one.hardware and one.precision in PRECISIONS and not one.model, one
            continue
        assert one.model in models, one
        if one.kind == SIZE:
            assert one.metric == "parameters_m" and one.gmacs and one.pixels, one
            continue
        assert bundled().find(one.metric) is not None, one
        if one.kind == SPEED:
            accepted = {each for group in PRECISIONS.values() for each in group}
            assert one.hardware and one.batch and one.pixels and one.precision in accepted, one
        else:
            assert one.images and one.data in data, one
    assert {one.kind for one in published.figures()} == set(KINDS)


def test_no_figure_is_listed_twice():
    keys = [replace(one, value=0.0, source="", note="") for one in published.figures()]
    assert len(set(keys)) == len(keys)


def test_no_published_throughput_is_above_the_peak_of_its_device():
    checked = 0
    for one in published.figures():
        limit = published.peak(one.hardware, one.precision) if one.kind == SPEED else None
        if limit and one.gflop:
            assert 0.01 < one.value * one.gflop / (limit * 1e3) < 1, one
            checked += 1
    assert checked >= 10


def test_published_qualities_are_fractions_or_cider():
    for one in published.figures():
        if one.kind == PUBLISHED_QUALITY:
            assert 0 < one.value < (10 if "cider" in one.metric else 1), one


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("value", "fast", "value is not a number: 'fast'"),
        ("value", "", "value is not a positive number: ''"),
        ("value", "nan", "value is not a positive number"),
        ("batch", "1.5", "batch is not a number: '1.5'"),
        ("kind", "guess", "kind is 'guess'"),
    ],
)
def test_a_cell_that_cannot_be_read_is_named_with_its_line(tmp_path, column, cell, message):
    with published.FILE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    path = tmp_path / "published.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows([rows[0], {**rows[1], column: cell}])
    with pytest.raises(ConfigError, match="published.csv:3: ") as error:
        published.figures(path)
    assert message in str(error.value)


def test_a_file_with_other_columns_is_refused(tmp_path):
    path = tmp_path / "published.csv"
    path.write_text("kind,model\n", "utf-8")
    with pytest.raises(ConfigError, match="columns"):
        published.figures(path)


def test_the_table_of_the_document_on_quality_is_that_of_the_file():
    path = ROOT / "scripts" / "published_quality.py"
    spec = importlib.util.spec_from_file_location("published_quality", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    page = script.PAGE.read_text("utf-8")
    assert script.written(page) == page, "run python scripts/published_quality.py"


# ------------------------------------------------------------------------------------------------------------- nearest
def test_a_figure_of_the_same_part_is_nearer_than_one_of_another_part():
    one = timed(8, 90, flops_per_image_gflop=975.7)
    assert only(measured(one, name="sam_vit_b")).figure.part == "both"
    assert only(measured(one, name="sam_vit_b", part="encoder")).figure.part == "encoder"


def test_a_figure_of_the_same_device_is_nearer_than_one_of_another_device():
    one = measured(timed(1024, 5000.0), part="image", device="NVIDIA GeForce RTX 3090")
    assert only(one).figure.hardware == "NVIDIA GeForce RTX 3090"


def test_the_nearest_precision_is_chosen_on_a_device_with_figures_in_several_precisions():
    name = "NVIDIA A100-SXM4-80GB"
    for precision in ("fp32", "bf16"):
        assert only(measured(timed(1, 9.0), name="sam_vit_h", device=name, precision=precision)).figure.precision == (
            precision
        )


@pytest.mark.parametrize(("batch", "nearest"), [(1, 1), (4, 1), (8, 32), (64, 32)])
def test_the_figure_with_the_nearest_batch_size_is_chosen(batch, nearest):
    assert only(measured(timed(batch, 90.0), name="sam_vit_b")).figure.batch == nearest


def test_a_device_without_a_peak_rate_has_only_figures_of_the_same_device():
    assert not list(published.comparisons([measured(timed(512, 9000), part="image", device="a processor")]))
    device = "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition"
    one = only(measured(timed(2048, 9020.85), part="image", device=device))
    assert (one.figure.hardware, one.expected) == (device, 18041.7)
    assert one.ratio == pytest.approx(0.5)


@pytest.mark.parametrize(
    "other",
    [
        {"name": "clip_tiny"},
        {"part": "text"},
        {"precision": "int8_dynamic"},
        {"precision": "tf32"},
        {"device": f"{H100} MIG 1g.10gb"},
    ],
)
def test_a_run_without_a_comparable_figure_has_no_comparison(other):
    assert not list(published.comparisons([measured(timed(512, 9000), **other)]))


def test_a_figure_for_another_image_size_is_left_out():
    one = measured(timed(512, 9000), part="image")
    config = one.record.config
    for size, count in ((224, 1), (336, 0)):
        model = {**config["model"], "architecture": {"vision_config": {"image_size": size}}}
        record = replace(one.record, config={**config, "model": model})
        assert len(list(published.comparisons([Run(record, one.results)]))) == count


@pytest.mark.parametrize(("gflop", "count"), [(8.8176, 1), (1.5, 0), (12.0, 0)])
def test_a_model_of_the_same_name_with_another_work_is_not_compared(gflop, count):
    one = measured(timed(512, 9000, flops_per_image_gflop=gflop), part="image")
    assert len(list(published.comparisons([one]))) == count


def test_a_case_without_a_measured_work_is_not_compared_with_a_figure_of_a_part():
    assert not list(published.comparisons([measured(timed(512, 9000))]))
    assert only(measured(timed(512, 9000, flops_per_image_gflop=WORK))).figure.part == "image"


# --------------------------------------------------------------------------------------------------------------- scale
def test_a_throughput_is_scaled_by_the_ratio_of_the_peak_rates():
    one = only(measured(timed(512, 25000), part="image"))
    assert one.figure.hardware == "NVIDIA GeForce RTX 4090"
    assert one.expected == pytest.approx(8623.33 * 989.4 / 165.15)
    assert one.ratio == pytest.approx(25000 / 51661.4, rel=1e-4)


def test_a_throughput_of_the_complete_model_is_also_scaled_by_the_work():
    one = only(measured(timed(512, 13378, flops_per_image_gflop=WORK)))
    assert one.expected == pytest.approx(8623.33 * 989.4 / 165.15 * 8.82 / 14.777)
    assert one.ratio == pytest.approx(0.4338, rel=1e-3)


# --------------------------------------------------------------------------------------------------------- implausible
def excesses(one):
    return [(each.limit, each.multiple) for each in published.excesses([one], list(published.comparisons([one])))]


def test_a_throughput_above_the_peak_rate_of_the_device_is_implausible():
    at_the_peak = 989.4e3 / WORK
    assert excesses(measured(timed(512, 1.4 * at_the_peak, flops_per_image_gflop=WORK))) == []
    ((limit, multiple),) = excesses(measured(timed(512, 1.6 * at_the_peak, flops_per_image_gflop=WORK)))
    assert (limit, multiple) == (published.PEAK_RATE, pytest.approx(1.6))


def test_a_rate_above_the_measured_ceiling_is_implausible_on_every_device():
    values = {"flops_achieved_tflop_per_s": 0.32, "flops_ceiling_tflop_per_s": 0.2}
    one = measured(timed(8, 90, **values), name="clip_tiny", device="a processor", precision="fp32")
    assert excesses(one) == [(published.MEASURED_CEILING, pytest.approx(1.6))]
    values["flops_achieved_tflop_per_s"] = 0.29
    assert excesses(measured(timed(8, 90, **values), name="clip_tiny", device="a processor")) == []


def test_a_rate_in_integers_is_not_compared_with_a_ceiling_in_floating_point():
    values = {"flops_achieved_tflop_per_s": 0.9, "flops_ceiling_tflop_per_s": 0.2}
    assert excesses(measured(timed(8, 90, **values), device="a processor", precision="int8_dynamic")) == []


@pytest.mark.parametrize(
    ("runtime", "precision", "marked"),
    [
        ("eager", "bf16", True),
        ("compile", "bf16", True),
        ("openvino", "fp32", True),
        ("openvino", "bf16", False),
        ("onnxruntime", "fp16", False),
    ],
)
def test_a_runtime_without_torch_is_compared_with_the_ceiling_of_torch_only_in_fp32(runtime, precision, marked):
    values = {"flops_achieved_tflop_per_s": 0.9, "flops_ceiling_tflop_per_s": 0.2}
    one = measured(timed(8, 90, **values), device="a processor", precision=precision, plan={"runtime": runtime})
    assert bool(excesses(one)) is marked


def test_a_throughput_far_above_the_scaled_published_figure_is_implausible():
    expected = 8623.33 * 989.4 / 165.15
    assert excesses(measured(timed(512, 9 * expected), part="image")) == []
    assert excesses(measured(timed(512, 11 * expected), part="image")) == [(published.PUBLISHED, pytest.approx(11))]


@pytest.mark.parametrize("page", ["h100", "h200"])
def test_our_figures_of_gpus_are_below_the_limits_and_near_the_published_figures(page):
    with (ROOT / "docs" / "results" / f"{page}-cases.csv").open(encoding="utf-8", newline="") as file:
        rows = [each for each in csv.DictReader(file) if each["throughput_images_per_s"]]
    runs = []
    for each in rows:
        names = ("flops_per_image_gflop", "flops_achieved_tflop_per_s", "flops_ceiling_tflop_per_s")
        values = {name: float(each[name]) for name in names if each[name]}
        case = timed(int(float(each["batch_size"])), each["throughput_images_per_s"], **values)
        runs.append(measured(case, name=each["model"], device=each["device_name"], precision=each["precision"]))
    compared = list(published.comparisons(runs))
    assert {one.run.model for one in compared} == {"clip_vit_b32", "sam_vit_b"}
    assert list(published.excesses(runs, compared)) == []
    assert all(0.001 < one.ratio < 1.2 for one in compared)


# ------------------------------------------------------------------------------------------------------------- quality
def scored(images=5000, weights="pretrained", **more):
    values = {"recall_t2i_at_1_fraction": 0.30, "pictures_used_count": float(images), "pictures_found_count": 5000.0}
    data = {"name": "karpathy", "options": {"annotations": "dataset_coco.json"}}
    config = {"model": {"name": "clip_vit_b32", "weights": weights}, "data": data}
    return run(row(QUALITY, **values), name="clip_vit_b32", config=config, **more)


def test_a_quality_over_the_complete_data_is_compared():
    one = only(scored())
    assert (one.figure.metric, one.figure.data, one.expected) == ("recall_t2i_at_1_fraction", "coco_karpathy", 0.3044)


@pytest.mark.parametrize("other", [{"images": 100}, {"weights": "random"}])
def test_a_quality_over_part_of_the_data_or_of_random_weights_is_not_compared(other):
    assert not list(published.comparisons([scored(**other)]))


# -------------------------------------------------------------------------------------------------------------- report
def test_the_report_has_the_comparison_and_the_sources():
    report = document.compose([measured(timed(512, 13378, flops_per_image_gflop=WORK))])
    (cells,) = report.published.rows
    assert [cells[column] for column in (3, 4, 5, 6)] == ["512", "images/s", "13,378", "0.434"]
    assert cells[8] == "19.98%"
    assert cells[-1] == "[1]"
    assert cells[9] == "8,623 · RTX 4090 · amp_fp16 · batch 512"
    assert cells[10] == "part both, published image; published with autocast"
    assert report.published_sources[0].startswith("[1] timm, PyTorch 2.4, channels last: https://")


def test_the_report_of_a_processor_has_no_comparison_and_says_nothing_about_it():
    report = document.compose([measured(timed(8, 100), device="a processor")])
    assert report.published is None
    assert not [remark for remark in report.remarks if "published" in remark]


@pytest.mark.parametrize(("language", "word"), [("en", "implausible"), ("zh", "不可信")])
def test_the_report_begins_with_an_implausible_figure(language, word):
    report = document.compose([measured(timed(512, 900000, flops_per_image_gflop=WORK))], language)
    assert "batch-512" in report.remarks[0]
    assert word in report.remarks[0]
