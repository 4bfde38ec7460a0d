"""The whole data set once through a model that the test writes: order, bounds, threads, faults, and what is kept."""

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
from visionbench.stages import evaluation
from visionbench.stages.context import Context
from visionbench.stages.evaluation import EvaluationError


@dataclass(frozen=True)
class Brightness:
    """A quality metric of the mean pixel, which stands in the rows."""

    stages = ("evaluation",)
    reads = frozenset({"brightness", "label"})
    needs = frozenset({"labels"})

    def score(self, predictions):
        return Samples({"brightness/value": np.concatenate(predictions.columns["brightness"])})

    def compute(self, samples):
        return Metrics()


@dataclass
class Dim:
    """Its answer is the mean pixel; it remembers batch sizes, threads and how many batches were under way."""

    classes: tuple[str, ...] = ("dark", "light")
    batches: list = field(default_factory=list)
    threads: dict = field(default_factory=dict)
    prepared: int = 0
    most_ahead: int = 0
    nan_at: float = -1.0
    wait_for: threading.Event | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def evaluator(self, wanted, classes):
        assert wanted == {"brightness"}
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
    """Eleven pictures, the k-th all of brightness 10 k."""
    found = []
    for k in range(11):
        path = tmp_path / f"{k}.png"
        Image.new("RGB", (8, 6), (10 * k,) * 3).save(path)
        found.append(Example(f"picture {k}", path, label="dark" if k < 5 else "light"))
    return found


def context(examples, model, batch_size=4, workers=2, on_error="fail"):
    measure = MeasureConfig(name="test", evaluation=EvaluationConfig(batch_size, workers))
    case = Case("quality", batch_size, ("evaluation",), ("brightness",))
    metrics = {"brightness": Brightness()}
    return Context(case, model, Cpu(), measure, [], 0, examples, metrics, ("dark", "light"), on_error)


def evaluate(examples, model, **settings):
    passing = evaluation.run(context(examples, model, **settings))
    while True:
        try:
            next(passing)
        except StopIteration as end:
            return end.value


def replace(example, path: Path):
    return Example(example.id, path, label=example.label)


@pytest.mark.parametrize("workers", [1, 5])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_every_picture_is_answered_once_in_order_whatever_the_threads(examples, workers, batch_size):
    found = evaluate(examples, Dim(), workers=workers, batch_size=batch_size)
    assert list(found.predictions.ids) == [example.id for example in examples]
    assert [float(value[0]) for value in found.predictions.columns["brightness"]] == [10.0 * k for k in range(11)]
    assert list(found.predictions.columns["label"]) == [example.label for example in examples]
    assert found.predictions.classes == ("dark", "light")
    assert not found.left_out


def test_metrics_score_the_predictions_and_the_steps_are_timed(examples):
    series = evaluate(examples, Dim()).samples.series
    assert series["brightness/value"].tolist() == [10.0 * k for k in range(11)]
    assert series["evaluation/images_count"].tolist() == [11.0]
    for step in ("decode", "preprocess", "forward", "postprocess"):
        assert len(series[f"evaluation/{step}_s"]) == 3
        assert (series[f"evaluation/{step}_s"] > 0).all()
    assert series["evaluation/seconds_s"] > 0


def test_batches_are_of_the_configured_size_and_the_last_takes_the_rest(examples):
    model = Dim()
    evaluate(examples, model)
    assert model.batches == [4, 4, 3]


def test_steps_run_in_threads_of_their_own(examples):
    model = Dim()
    evaluate(examples, model, batch_size=1)
    names = [
        {name.rpartition("_")[0] or name for name in model.threads[step]} for step in ("prepare", "forward", "finish")
    ]
    assert names == [{"load"}, {threading.current_thread().name}, {"finish"}]


def test_few_batches_are_loaded_ahead_of_the_model(examples):
    model = Dim()
    evaluate(examples * 5, model, batch_size=1, workers=2)
    assert model.most_ahead <= 3


def test_progress_is_told_in_order(examples, monkeypatch):
    monkeypatch.setattr(evaluation, "TELL_EVERY_S", -1.0)
    told = list(evaluation.run(context(examples, Dim())))
    assert [(progress.done, progress.of) for progress in told] == [(4, 11), (8, 11), (11, 11)]


@pytest.mark.parametrize("fault", ["missing", "truncated"])
def test_a_picture_that_cannot_be_decoded_ends_the_case_by_its_name(examples, fault, tmp_path):
    examples[6] = replace(examples[6], broken(tmp_path, fault))
    with pytest.raises(EvaluationError, match=r"picture 6: .*data.on_error=skip"):
        evaluate(examples, Dim())


@pytest.mark.parametrize("fault", ["missing", "truncated"])
def test_or_is_left_out_and_named(examples, fault, tmp_path):
    examples[6] = replace(examples[6], broken(tmp_path, fault))
    found = evaluate(examples, Dim(), on_error="skip")
    assert list(found.left_out) == ["picture 6"]
    assert [float(value[0]) for value in found.predictions.columns["brightness"]] == [
        10.0 * k for k in range(11) if k != 6
    ]
    assert found.samples.series["evaluation/images_count"].tolist() == [10.0]


def test_an_answer_that_is_not_finite_ends_the_case_or_is_left_out(examples):
    with pytest.raises(EvaluationError, match="picture 3: the model's brightness holds NaN or infinity"):
        evaluate(examples, Dim(nan_at=30.0))
    found = evaluate(examples, Dim(nan_at=30.0), on_error="skip")
    assert found.left_out == {"picture 3": "the model's brightness holds NaN or infinity"}


def test_a_batch_of_which_nothing_is_left_is_passed_over(examples, tmp_path):
    missing = tmp_path / "none.png"
    few = [replace(example, missing) if at < 4 else example for at, example in enumerate(examples)]
    model = Dim()
    assert len(evaluate(few, model, on_error="skip").predictions.ids) == 7
    assert model.batches == [4, 3]


def test_without_any_prediction_there_is_no_number(examples, tmp_path):
    with pytest.raises(EvaluationError, match=r"no picture has a prediction; the first: "):
        evaluate([replace(example, tmp_path / "none.png") for example in examples], Dim(), on_error="skip")


def test_a_fault_of_the_model_comes_through_and_ends_the_threads(examples):
    class Broken(Dim):
        def forward(self, inputs):
            raise RuntimeError("upside down")

    before = threading.active_count()
    with pytest.raises(RuntimeError, match="upside down"):
        evaluate(examples * 20, Broken())
    assert threading.active_count() == before


class Choosy(Dim):
    """A step of it fails for pictures of some means: with 255 for all of them."""

    def __init__(self, step, *refused):
        super().__init__()
        self.step, self.refused = step, refused

    def fail(self, step, means):
        if step == self.step and any(mean in self.refused for mean in means):
            raise RuntimeError("a side of no pixel")

    def prepare(self, pictures):
        found = super().prepare(pictures)
        self.fail("prepare", found["means"].tolist())
        return found

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
def test_a_picture_that_a_step_cannot_take_is_left_out_and_the_others_keep_their_answers(
    examples, step, batch_size, refused
):
    found = evaluate(examples, Choosy(step, *refused), batch_size=batch_size, on_error="skip")
    odd = [f"picture {int(mean / 10)}" for mean in refused]
    assert found.left_out == dict.fromkeys(odd, "the model cannot take it (RuntimeError: a side of no pixel)")
    assert list(found.predictions.ids) == [example.id for example in examples if example.id not in odd]
    assert [float(value[0]) for value in found.predictions.columns["brightness"]] == [
        10.0 * k for k in range(11) if 10.0 * k not in refused
    ]


@pytest.mark.parametrize("step", STEPS)
def test_or_ends_the_case_by_its_name(examples, step):
    with pytest.raises(EvaluationError) as caught:
        evaluate(examples, Choosy(step, 30.0))
    assert str(caught.value) == (
        "picture 3: the model cannot take it (RuntimeError: a side of no pixel); data.on_error=skip would leave it out"
    )


@pytest.mark.parametrize("step", ["forward", "finish"])
def test_a_model_that_answers_nothing_any_more_is_not_blamed_on_its_pictures(examples, step):
    model = Choosy(step)

    def once(means, fail=model.fail):
        model.refused = tuple(10.0 * k for k in range(11)) if 50.0 in means else model.refused
        fail(step, means)

    model.fail = lambda at, means: once(means) if at == step else None
    with pytest.raises(RuntimeError, match="a side of no pixel"):
        evaluate(examples, model, batch_size=2, on_error="skip")


def test_a_batch_that_only_fails_as_a_whole_comes_through(examples):
    class Small(Dim):
        def forward(self, inputs):
            if len(inputs["means"]) > 1:
                raise MemoryError("no room")
            return super().forward(inputs)

    with pytest.raises(MemoryError, match="no room"):
        evaluate(examples, Small(), on_error="skip")


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("step", ["forward", "finish"])
def test_a_model_that_finds_no_room_is_not_blamed_on_a_picture(examples, step, batch_size):
    class Large(Choosy):
        def fail(self, step, means):
            if step == self.step and 50.0 in means:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(RuntimeError, match="can't allocate memory"):
        evaluate(examples, Large(step), batch_size=batch_size, on_error="skip")


def test_without_any_answer_to_single_pictures_there_is_no_number(examples):
    every = Choosy("forward", *(10.0 * k for k in range(11)))
    with pytest.raises((EvaluationError, RuntimeError), match="a side of no pixel"):
        evaluate(examples, every, batch_size=1, on_error="skip")


def test_masks_of_another_size_than_the_picture_are_a_fault(examples, monkeypatch):
    class Masks(Brightness):
        reads = frozenset({"brightness", "truth_masks"})

    class Segmenting(Dim):
        def evaluator(self, wanted, classes):
            return self

    size = (6, 8)
    given = [
        Example(example.id, example.image, masks=lambda size=(9, 9) if at == 2 else size: np.ones((1, *size), bool))
        for at, example in enumerate(examples)
    ]
    passing = context(given, Segmenting())
    passing.metrics["brightness"] = Masks()
    with pytest.raises(EvaluationError, match="picture 2: its masks are 9 × 9 pixels, the picture 8 × 6"):
        list(evaluation.run(passing))


def broken(folder, fault):
    path = folder / "broken.jpg"
    if fault == "truncated":
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path, "JPEG")
        path.write_bytes(path.read_bytes()[:-600])
    return path


def test_masks_that_cannot_be_read_are_a_fault_of_their_picture(examples):
    def broken_masks():
        raise TypeError("no region")

    example = Example("odd", examples[0].image, masks=broken_masks)
    with pytest.raises(PictureError, match=r"its masks cannot be read \(no region\)"):
        evaluation._picture(example, with_masks=True)


@pytest.mark.parametrize("size", [(4, 6), (6, 6)], ids=["oblong", "square"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_lie_on_their_pixels_in_either_frame_for_each_orientation(tmp_path, orientation, size):
    """A picture that is red where its mask is, which was drawn on the stored or on the turned pixels."""
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
        picture = evaluation._picture(example, with_masks=True)
        np.testing.assert_array_equal(np.asarray(picture.image)[..., 0] > 0, picture.masks[0])
