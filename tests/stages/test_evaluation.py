"""The evaluation with a model that the test writes: order, limits, threads, and images without a prediction."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from visionbench.config import EvaluationConfig, MeasureConfig
from visionbench.core import Case, Example, Metrics, Samples
from visionbench.datafiles.images import PictureError, decode
from visionbench.devices.cpu import Cpu
from visionbench.examples import screening
from visionbench.metrics.evaluation import Evaluation as EvaluationSpeed
from visionbench.stages import evaluation
from visionbench.stages.decoding import Decoding
from visionbench.stages.evaluation import EvaluationContext, EvaluationError


@dataclass(frozen=True)
class Brightness:
    """A quality metric that returns the mean pixels of the predictions."""

    stages = ("evaluation",)
    reads = frozenset({"brightness", "label"})
    needs = frozenset({"labels"})

    def score(self, predictions):
        return Samples({"brightness/value": np.concatenate(predictions.columns["brightness"])})

    def compute(self, samples):
        return Metrics()


@dataclass
class Dim:
    """A model that predicts the mean pixel. It records batch sizes, threads and the batches loaded ahead."""

    classes: tuple[str, ...] = ("dark", "light")
    batches: list = field(default_factory=list)
    threads: dict = field(default_factory=dict)
    prepared: int = 0
    most_ahead: int = 0
    nan_at: float = -1.0
    wait_for: threading.Event | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def evaluator(self, columns, classes):
        assert columns == {"brightness"}
        return self

    def prepare(self, pictures):
        assert torch.is_inference_mode_enabled()
        with self.lock:
            self.prepared += 1
        self.threads.setdefault("prepare", set()).add(threading.current_thread().name)
        return {"means": torch.tensor([np.asarray(picture.image).mean() for picture in pictures])}

    def forward(self, inputs):
        assert torch.is_inference_mode_enabled()
        with self.lock:
            self.most_ahead = max(self.most_ahead, self.prepared - len(self.batches))
        self.batches.append(len(inputs["means"]))
        self.threads.setdefault("forward", set()).add(threading.current_thread().name)
        return inputs["means"].numpy()

    def finish(self, output, pictures):
        self.threads.setdefault("finish", set()).add(threading.current_thread().name)
        means = [np.array([np.nan if mean == self.nan_at else mean]) for mean in output]
        return [{"brightness": mean} for mean in means]


@pytest.fixture
def examples(tmp_path):
    """Eleven images. Image k has brightness 10 k."""
    examples = []
    for k in range(11):
        path = tmp_path / f"{k}.png"
        Image.new("RGB", (8, 6), (10 * k,) * 3).save(path)
        examples.append(Example(f"picture {k}", path, label="dark" if k < 5 else "light"))
    return examples


def context(examples, model, batch_size=4, workers=2, on_error="fail"):
    measure = MeasureConfig(name="test", evaluation=EvaluationConfig(batch_size, workers))
    case = Case("quality", batch_size, ("evaluation",), ("brightness",))
    metrics = {"brightness": Brightness()}
    return EvaluationContext(case, model, Cpu(), measure, examples, metrics, ("dark", "light"), on_error)


def evaluate(examples, model, **settings):
    steps = evaluation.run(context(examples, model, **settings))
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def replace(example, path: Path):
    return Example(example.id, path, label=example.label)


@pytest.mark.parametrize("workers", [1, 5])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_every_image_is_predicted_once_in_order_for_any_number_of_threads(examples, workers, batch_size):
    evaluated = evaluate(examples, Dim(), workers=workers, batch_size=batch_size)
    assert list(evaluated.predictions.ids) == [example.id for example in examples]
    assert [float(value[0]) for value in evaluated.predictions.columns["brightness"]] == [10.0 * k for k in range(11)]
    assert list(evaluated.predictions.columns["label"]) == [example.label for example in examples]
    assert evaluated.predictions.classes == ("dark", "light")
    assert not evaluated.left_out


def test_metrics_score_the_predictions_and_steps_are_timed(examples):
    series = evaluate(examples, Dim()).samples.series
    assert series["brightness/value"].tolist() == [10.0 * k for k in range(11)]
    assert series["evaluation/images_count"].tolist() == [11.0]
    for step in ("decode", "preprocess", "forward", "postprocess"):
        assert len(series[f"evaluation/{step}_s"]) == 3
        assert (series[f"evaluation/{step}_s"] > 0).all()
    assert series["evaluation/seconds_s"] > 0


def test_batches_have_the_configured_size_and_the_last_batch_has_the_remaining_images(examples):
    model = Dim()
    evaluate(examples, model)
    assert model.batches == [4, 4, 3]


def test_steps_run_in_separate_threads(examples):
    model = Dim()
    evaluate(examples, model, batch_size=1)
    names = [
        {name.rpartition("_")[0] or name for name in model.threads[step]} for step in ("prepare", "forward", "finish")
    ]
    assert names == [{"load"}, {threading.current_thread().name}, {"finish"}]


def test_the_number_of_batches_loaded_ahead_is_limited(examples):
    model = Dim()
    evaluate(examples * 5, model, batch_size=1, workers=2)
    assert model.most_ahead <= 3


def test_progress_is_reported_in_order(examples, monkeypatch):
    monkeypatch.setattr(evaluation, "PROGRESS_EVERY_S", -1.0)
    reported = list(evaluation.run(context(examples, Dim())))
    assert [(progress.done, progress.total) for progress in reported] == [(4, 11), (8, 11), (11, 11)]


def test_times_that_contain_a_pause_are_missing_and_the_quality_is_kept(examples, monkeypatch):
    monkeypatch.setattr(
        evaluation.Heartbeat, "reason", lambda self, stage: f"40 s of {stage.split(' ', 3)[3].removeprefix('of ')}"
    )
    samples = evaluate(examples, Dim()).samples
    assert samples.series["brightness/value"].tolist() == [10.0 * k for k in range(11)]
    assert samples.missing["evaluation/seconds_s"] == "paused: 40 s of the evaluation"
    metrics = EvaluationSpeed().compute(samples)
    assert metrics.values["evaluation_images_per_s"] is None
    assert metrics.reasons["evaluation_images_per_s"] == "paused: 40 s of the evaluation"
    assert metrics.values["evaluation_images_count"] == 11.0


def test_a_parent_process_that_replies_late_counts_as_a_pause(examples, monkeypatch):
    clock = iter(range(0, 100_000, 40))
    monkeypatch.setattr(evaluation, "perf_counter", lambda: float(next(clock)))
    assert evaluate(examples, Dim()).samples.missing["evaluation/seconds_s"].startswith("paused: the process did not")


@pytest.mark.parametrize("fault", ["missing", "truncated"])
def test_an_image_that_cannot_be_decoded_ends_the_case_and_is_named(examples, fault, tmp_path):
    examples[6] = replace(examples[6], broken(tmp_path, fault))
    with pytest.raises(EvaluationError, match=r"picture 6: .*data.on_error=skip"):
        evaluate(examples, Dim())


@pytest.mark.parametrize("fault", ["missing", "truncated"])
def test_an_image_that_cannot_be_decoded_is_left_out_with_skip(examples, fault, tmp_path):
    examples[6] = replace(examples[6], broken(tmp_path, fault))
    evaluated = evaluate(examples, Dim(), on_error="skip")
    assert list(evaluated.left_out) == ["picture 6"]
    assert [float(value[0]) for value in evaluated.predictions.columns["brightness"]] == [
        10.0 * k for k in range(11) if k != 6
    ]
    assert evaluated.samples.series["evaluation/images_count"].tolist() == [10.0]


def test_a_prediction_that_is_not_finite_ends_the_case_or_is_left_out(examples):
    with pytest.raises(EvaluationError, match="picture 3: the model's brightness holds NaN or infinity"):
        evaluate(examples, Dim(nan_at=30.0))
    evaluated = evaluate(examples, Dim(nan_at=30.0), on_error="skip")
    assert evaluated.left_out == {"picture 3": "the model's brightness holds NaN or infinity"}


def test_a_batch_without_any_usable_image_is_skipped(examples, tmp_path):
    missing = tmp_path / "none.png"
    few = [replace(example, missing) if index < 4 else example for index, example in enumerate(examples)]
    model = Dim()
    assert len(evaluate(few, model, on_error="skip").predictions.ids) == 7
    assert model.batches == [4, 3]


def test_a_data_set_without_any_prediction_ends_the_case(examples, tmp_path):
    with pytest.raises(EvaluationError, match=r"no image has a prediction, the first because: "):
        evaluate([replace(example, tmp_path / "none.png") for example in examples], Dim(), on_error="skip")


def test_an_error_of_the_model_is_raised_and_ends_the_threads(examples):
    class Broken(Dim):
        def forward(self, inputs):
            raise RuntimeError("upside down")

    before = threading.active_count()
    with pytest.raises(RuntimeError, match="upside down"):
        evaluate(examples * 20, Broken())
    assert threading.active_count() == before


class Choosy(Dim):
    """A model with a step that fails for images of these means."""

    def __init__(self, step, *refused):
        super().__init__()
        self.step, self.refused = step, refused

    def fail(self, step, means):
        if step == self.step and any(mean in self.refused for mean in means):
            raise RuntimeError("a side of no pixel")

    def prepare(self, pictures):
        inputs = super().prepare(pictures)
        self.fail("prepare", inputs["means"].tolist())
        return inputs

    def forward(self, inputs):
        self.fail("forward", inputs["means"].tolist())
        return super().forward(inputs)

    def finish(self, output, pictures):
        self.fail("finish", output.tolist())
        return super().finish(output, pictures)


STEPS = ["prepare", "forward", "finish"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("batch_size", [1, 2, 4, 100])
@pytest.mark.parametrize("refused", [(0.0,), (30.0,), (100.0,), (20.0, 30.0), (0.0, 40.0, 100.0)])
def test_an_image_that_fails_in_a_step_is_left_out_and_the_others_keep_their_predictions(
    examples, step, batch_size, refused
):
    evaluated = evaluate(examples, Choosy(step, *refused), batch_size=batch_size, on_error="skip")
    odd = [f"picture {int(mean / 10)}" for mean in refused]
    assert evaluated.left_out == dict.fromkeys(odd, "the model cannot take it (RuntimeError: a side of no pixel)")
    assert list(evaluated.predictions.ids) == [example.id for example in examples if example.id not in odd]
    assert [float(value[0]) for value in evaluated.predictions.columns["brightness"]] == [
        10.0 * k for k in range(11) if 10.0 * k not in refused
    ]


@pytest.mark.parametrize("step", STEPS)
def test_an_image_that_fails_in_a_step_ends_the_case_and_is_named(examples, step):
    with pytest.raises(EvaluationError) as caught:
        evaluate(examples, Choosy(step, 30.0))
    assert str(caught.value) == (
        "picture 3: the model cannot take it (RuntimeError: a side of no pixel); data.on_error=skip would leave it out"
    )


@pytest.mark.parametrize("step", ["forward", "finish"])
def test_a_model_that_stops_working_raises_its_error_and_leaves_no_image_out(examples, step):
    model = Choosy(step)

    def once(means, fail=model.fail):
        model.refused = tuple(10.0 * k for k in range(11)) if 50.0 in means else model.refused
        fail(step, means)

    model.fail = lambda at, means: once(means) if at == step else None
    with pytest.raises(RuntimeError, match="a side of no pixel"):
        evaluate(examples, model, batch_size=2, on_error="skip")


def test_a_batch_that_fails_although_each_image_works_raises_the_error(examples):
    class Small(Dim):
        def forward(self, inputs):
            if len(inputs["means"]) > 1:
                raise MemoryError("no room")
            return super().forward(inputs)

    with pytest.raises(MemoryError, match="no room"):
        evaluate(examples, Small(), on_error="skip")


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("step", ["forward", "finish"])
def test_a_model_that_runs_out_of_memory_raises_the_error_and_leaves_no_image_out(examples, step, batch_size):
    class Large(Choosy):
        def fail(self, step, means):
            if step == self.step and 50.0 in means:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(RuntimeError, match="can't allocate memory"):
        evaluate(examples, Large(step), batch_size=batch_size, on_error="skip")


def test_a_model_that_fails_for_every_image_ends_the_case(examples):
    every = Choosy("forward", *(10.0 * k for k in range(11)))
    with pytest.raises((EvaluationError, RuntimeError), match="a side of no pixel"):
        evaluate(examples, every, batch_size=1, on_error="skip")


def test_masks_of_another_size_than_their_image_end_the_case(examples, monkeypatch):
    class Masks(Brightness):
        reads = frozenset({"brightness", "truth_masks"})

    class Segmenting(Dim):
        def evaluator(self, columns, classes):
            return self

    size = (6, 8)
    with_masks = [
        Example(example.id, example.image, masks=lambda size=(9, 9) if index == 2 else size: np.ones((1, *size), bool))
        for index, example in enumerate(examples)
    ]
    segmenting = context(with_masks, Segmenting())
    segmenting.metrics["brightness"] = Masks()
    with pytest.raises(EvaluationError, match="picture 2: its masks are 9 × 9 pixels, the image 8 × 6"):
        list(evaluation.run(segmenting))


def test_class_maps_are_compared_at_once_and_are_not_kept(examples):
    class Pixels(Brightness):
        reads = frozenset({"brightness", "class_map"})
        needs = frozenset({"class_map"})
        replaces = reads

        def compare(self, row):
            return {"right": float((row["class_map"] * 10 == row["brightness"]).mean())}

        def score(self, predictions):
            return Samples({"brightness/right_fraction": np.array(predictions.columns["right"])})

    with_maps = [
        Example(example.id, example.image, class_map=lambda index=index: np.full((6, 8), index))
        for index, example in enumerate(examples)
    ]
    comparing = context(with_maps, Dim())
    comparing.metrics["brightness"] = Pixels()
    steps = evaluation.run(comparing)
    evaluated = next(iter(_results(steps)))
    assert set(evaluated.predictions.columns) == {"right"}
    assert evaluated.samples.series["brightness/right_fraction"].tolist() == [1.0] * 11


def test_a_class_map_of_another_size_than_its_image_ends_the_case(examples):
    class Pixels(Brightness):
        needs = frozenset({"class_map"})

    with_maps = [Example(example.id, example.image, class_map=lambda: np.zeros((8, 6), int)) for example in examples]
    mapped = context(with_maps, Dim())
    mapped.metrics["brightness"] = Pixels()
    with pytest.raises(EvaluationError, match="picture 0: its class map is 6 × 8 pixels, the image 8 × 6"):
        list(evaluation.run(mapped))


def _results(steps):
    """Yield the result of an evaluation."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            yield end.value
            return


def broken(folder, fault):
    path = folder / "broken.jpg"
    if fault == "truncated":
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path, "JPEG")
        path.write_bytes(path.read_bytes()[:-600])
    return path


def test_masks_that_cannot_be_read_are_a_problem_of_their_image(examples):
    def broken_masks():
        raise TypeError("no region")

    example = Example("odd", examples[0].image, masks=broken_masks)
    with pytest.raises(PictureError, match=r"its masks cannot be read \(no region\)"):
        evaluation._decode(example, Decoding(), frozenset({"masks"}))


@pytest.mark.parametrize("size", [(4, 6), (6, 6)], ids=["oblong", "square"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_match_their_pixels_in_both_frames_for_each_orientation(tmp_path, orientation, size):
    """The image is red in its mask, which was drawn on the stored or on the turned pixels."""
    stored = np.random.default_rng(orientation).integers(0, 2, size).astype(bool)
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[stored, 0] = 255
    path = tmp_path / "p.png"
    Image.fromarray(pixels).save(path, exif=exif)
    turned = np.asarray(decode(path))[..., 0] > 0
    for frame, mask in (("stored", stored), ("turned", turned)):
        example = Example("a", path, masks=lambda mask=mask: mask[None], size=mask.shape, exif=frame)
        assert not screening.find_problems([example], decoded=1)
        picture = evaluation._decode(example, Decoding(), frozenset({"masks"}))
        np.testing.assert_array_equal(np.asarray(picture.image)[..., 0] > 0, picture.masks[0])
