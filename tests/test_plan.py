"""Config to plan: the cases of a choice of metrics, and each refusal in its own words before anything loads."""

import pytest

from visionbench import machine
from visionbench.config import DeviceConfig
from visionbench.core import Case
from visionbench.devices.cuda import Cuda
from visionbench.parts import find_device
from visionbench.plan import plan
from visionbench.registry import ConfigError

ABSENT = "no NVIDIA driver answers"


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(Cuda, "why_absent", lambda self: ABSENT)


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(Cuda, "why_absent", lambda self: None)


@pytest.fixture
def refusal(config):
    """Overrides to the one line with which planning refuses them."""

    def refusal(*overrides):
        with pytest.raises(ConfigError) as caught:
            plan(config(*overrides))
        return str(caught.value)

    return refusal


# ------------------------------------------------------------------------------------------------------------- cases
@pytest.mark.parametrize(
    ("metrics", "stages"),
    [
        ("[latency]", ("warmup", "latency")),
        ("[throughput]", ("warmup", "throughput")),
        ("[memory]", ("warmup", "memory")),
        ("[memory,latency]", ("warmup", "latency", "memory")),
        ("[latency,throughput,memory]", ("warmup", "latency", "throughput", "memory")),
    ],
)
def test_a_timed_case_has_the_stages_that_its_metrics_ask_for_in_the_protocols_order(config, metrics, stages):
    found = plan(config("batch=single", f"metrics={metrics}"))
    assert found.cases == (Case("batch-1", 1, stages, tuple(metrics.strip("[]").split(","))),)


def test_quality_is_a_case_of_its_own_after_the_batch_sizes(config):
    found = plan(config("batch.sizes=[2,1]"))
    assert [case.id for case in found.cases] == ["batch-1", "batch-2", "quality"]
    assert found.cases[-1] == Case("quality", 32, ("evaluation",), ("recall", "classification", "evaluation"))
    assert [case.timed for case in found.cases] == [True, True, False]


def test_quality_alone_has_no_batch_sizes_to_time(config):
    assert [case.id for case in plan(config("metrics=[recall]")).cases] == ["quality"]


def test_batch_sizes_are_measured_from_small_to_large(config):
    found = plan(config("batch.sizes=[8,1,4]", "metrics=[latency]"))
    assert [case.batch_size for case in found.cases] == [1, 4, 8]


def test_a_plan_says_what_runs_where(config):
    found = plan(config("model=sam_vit_b", "model.weights=random", "precision=bf16"))
    assert found.name == "sam_vit_b · cpu · bf16"
    assert (found.model, found.device, found.precision) == ("sam_vit_b", "cpu", "bf16")


def test_auto_takes_the_gpu_where_there_is_one_and_else_the_cpu(gpu):
    assert find_device(DeviceConfig(name="auto")).kind == "cuda"


def test_auto_takes_the_cpu_where_there_is_no_gpu():
    assert find_device(DeviceConfig(name="auto")).kind == "cpu"


def test_a_gpu_that_auto_cannot_use_is_a_warning_with_the_reason(config, monkeypatch):
    monkeypatch.setattr(machine, "has_nvidia_gpu", lambda: True)
    monkeypatch.setattr(Cuda, "why_absent", lambda self: "the driver supports CUDA 11.4")
    told = "device=auto takes the CPU: the NVIDIA GPU of this machine cannot be used (the driver supports CUDA 11.4)"
    assert plan(config("device=auto")).warnings == (told,)
    assert plan(config("device=cpu")).warnings == ()


def test_a_gpu_is_planned_for_by_its_index(config, gpu):
    found = plan(config("device=cuda", "device.index=1", "precision=tf32"))
    assert found.device == "cuda:1"
    assert found.precision == "tf32"


# ---------------------------------------------------------------------------------------------------- refused groups
def test_random_weights_refuse_recall_with_the_reason_and_keep_the_rest(config):
    found = plan(config("model.weights=random"))
    reason = "random weights have no quality to measure"
    assert found.refused == {"recall": reason, "classification": reason}
    assert found.unsuited["evaluation"] == "no quality metric is left for it to go with"
    assert [case.id for case in found.cases] == ["batch-1", "batch-2", "batch-4", "batch-8"]


def test_a_model_that_gives_no_embeddings_is_refused_recall(config):
    found = plan(config("model=vit_b16", "metrics=[latency,recall]"))
    assert found.refused["recall"] == (
        "a model for image classification does not give caption_embeddings and image_embedding"
    )
    assert [case.id for case in found.cases] == ["batch-1", "batch-2", "batch-4", "batch-8"]


def test_quality_metrics_of_other_tasks_are_no_refusal_where_the_model_has_its_own(config):
    found = plan(config("model=vit_b16"))
    assert found.refused == {}
    assert set(found.unsuited) == {"recall", "segmentation", "captioning"}
    assert found.cases[-1].metrics == ("classification", "evaluation")


def test_the_evaluation_pass_alone_is_nothing_to_measure(config):
    found = plan(config("metrics=[latency,evaluation]"))
    assert found.unsuited == {"evaluation": "no quality metric is left for it to go with"}
    assert all(case.timed for case in found.cases)


def test_data_that_is_read_from_a_folder_wants_one(config):
    with pytest.raises(ConfigError, match="'data.root' has no value; give it one, as in data.root=…"):
        plan(config("data=image_folder"))


def test_data_that_is_read_from_no_folder_refuses_a_root(config):
    with pytest.raises(ConfigError, match="data.root=x: data=shapes is read from no folder; leave it out"):
        plan(config("data.root=x"))


def test_data_without_captions_is_refused_recall(config):
    found = plan(config("data=image_folder", "data.root=x", "model.options.part=image"))
    assert found.refused == {"recall": "data=image_folder has no captions"}
    assert found.cases[-1].metrics == ("classification", "evaluation")


# ---------------------------------------------------------------------------------------------------------- warnings
def test_half_precision_on_a_cpu_is_warned_of(config):
    found = plan(config("precision=fp16"))
    assert found.warnings == ("fp16 on a CPU is emulated in places, and many times slower than fp32",)


def test_other_precisions_and_a_gpu_are_not_warned_of(config, gpu):
    assert plan(config("precision=bf16", "device=cpu")).warnings == ()
    assert plan(config("precision=fp16", "device=cuda")).warnings == ()


# ---------------------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["batch.sizes=[]"], "batch.sizes=[]: give at least one batch size, as in batch.sizes=[1,2,4]"),
        (["batch.sizes=[4,0]"], "batch.sizes=[4,0]: 0 is not a batch size; they start at 1"),
        (["batch.sizes=[-2]"], "batch.sizes=[-2]: -2 is not a batch size; they start at 1"),
        (["batch.sizes=[1,4,1]"], "batch.sizes=[1,4,1]: 1 stands there 2 times; once is enough"),
        (
            ["precision=tf32"],
            "precision=tf32: TF32 is a mode of NVIDIA GPUs; on a CPU use fp32 or bf16",
        ),
        (["device=cuda"], f"device=cuda, device.index=0: {ABSENT}; use device=auto or device=cpu"),
        (["device.name=cdua"], "device.name=cdua: no such value; did you mean 'cuda'?"),
        (["device.index=-1"], "device.index=-1: devices are counted from 0"),
        (["device.threads=0"], "device.threads=0: must be at least 1"),
        (["precision.dtype=float8"], "precision.dtype=float8: no such value; did you mean 'float32'?"),
        (["model.weights=randon"], "model.weights=randon: no such value; did you mean 'random'?"),
        (["model.attention=spda"], "model.attention=spda: no such value; did you mean 'sdpa'?"),
        (["tracking.name=mlfow"], "tracking.name=mlfow: no such value; did you mean 'mlflow'?"),
        (["model.family=dual_encode"], "there is no 'dual_encode' among the models; did you mean 'dual_encoder'?"),
        (
            ["model.checkpoint=null"],
            "model clip_tiny names no checkpoint; give model.checkpoint=… or model.weights=random",
        ),
        (["measure.latency.calls=0"], "measure.latency.calls=0: must be at least 1"),
        (["measure.throughput.in_flight=0"], "measure.throughput.in_flight=0: must be at least 1"),
        (["measure.latency.percentile=99"], "measure.latency.percentile=99.0: must lie between 0 and 1"),
        (
            ["metrics=[recall]", "model.weights=random"],
            "metrics: nothing is left to measure; recall: random weights have no quality to measure",
        ),
        (["metrics=[]"], "metrics: nothing is asked for; choose some, as in metrics=[latency,memory]"),
        (
            ["data=image_folder", "data.root=x"],
            "data=image_folder has no captions, which model clip_tiny reads; "
            "choose other data, or a part of the model that does without (model.options.part=image)",
        ),
        (
            ["model.options.prat=image"],
            "there is no key 'model.options.prat'; did you mean 'model.options.part'?",
        ),
    ],
)
def test_a_combination_that_cannot_be_is_refused_in_one_line(refusal, overrides, message):
    assert refusal(*overrides) == message


@pytest.mark.parametrize("kind, base", [("trackers", "none.NoTracker"), ("devices", "cpu.Cpu")])
@pytest.mark.usefixtures("own_parts_forgotten")
def test_a_tracker_or_device_may_be_a_module_on_the_path(config, tmp_path, monkeypatch, kind, base):
    module, _, name = base.partition(".")
    source = f"from visionbench.{kind}.{module} import {name}\nfrom visionbench.registry import register\n"
    own = f"own_of_{kind}"
    (tmp_path / f"{own}.py").write_text(f"{source}\n@register('{kind}', '{own}')\nclass Own({name}): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert plan(config(f"{'tracking' if kind == 'trackers' else 'device'}.name={own}")).cases


@pytest.mark.parametrize("stage, name", [("warmup", "max_ratio"), ("latency", "median_within")])
def test_only_the_device_kind_in_use_must_have_its_tolerances(config, stage, name):
    found = config()
    of_kind = getattr(getattr(found.measure, stage), name)
    del of_kind["cuda"]
    assert plan(found).device == "cpu"
    del of_kind["cpu"]
    key = f"measure.{stage}.{name}"
    with pytest.raises(ConfigError, match=f"^{key} has no value for cpu; add {key}.cpu=…$"):
        plan(found)


def test_a_changed_protocol_is_told_by_what_was_changed(config):
    plain = config("measure=quick")
    assert plan(plain).protocol == "quick"
    typed = ["model=clip_tiny", "measure.latency.calls=7", "+measure.warmup.calls=2", "measure=quick"]
    assert plan(plain, typed).protocol == "quick with measure.latency.calls=7 +measure.warmup.calls=2"


def test_the_frame_of_masks_is_stored_or_turned_and_only_for_data_with_masks(config, refusal):
    masks = ("data=coco_instances", "data.root=nowhere", "model=sam_tiny", "metrics=[segmentation]")
    for frame in ("stored", "turned", "null"):
        assert plan(config(*masks, f"data.exif={frame}")).cases
    assert refusal(*masks, "data.exif=upright").startswith("data.exif=upright: no such value")
    bare = ("data=image_folder", "data.root=nowhere", "model=classifier_tiny", "metrics=[latency]")
    assert plan(config(*bare, "data.exif=turned")).cases
    assert refusal(*bare, "data.exif=stored") == (
        "data.exif=stored: data=image_folder gives no masks, and pictures without masks are always turned; leave it out"
    )
