"""The plan of a config: its cases, its warnings, and the message of each refusal."""

import pytest

from visionbench import machine
from visionbench.config import DeviceConfig
from visionbench.core import Case, ConfigError
from visionbench.devices.cuda import Cuda
from visionbench.parts import find_device
from visionbench.plan import plan

ABSENT = "no NVIDIA driver answers"


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(Cuda, "why_absent", lambda self: ABSENT)


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(Cuda, "why_absent", lambda self: None)


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
def test_a_timed_case_has_the_stages_of_its_metrics_in_the_order_of_the_protocol(config, metrics, stages):
    planned = plan(config("batch=single", f"metrics={metrics}"))
    assert planned.cases == (Case("batch-1", 1, stages, tuple(metrics.strip("[]").split(","))),)


def test_the_quality_case_comes_after_the_batch_sizes(config):
    planned = plan(config("batch.sizes=[2,1]"))
    assert [case.id for case in planned.cases] == ["batch-1", "batch-2", "quality"]
    assert planned.cases[-1] == Case("quality", 32, ("evaluation",), ("recall", "classification", "evaluation"))
    assert [case.timed for case in planned.cases] == [True, True, False]


def test_a_quality_metric_alone_plans_only_the_quality_case(config):
    assert [case.id for case in plan(config("metrics=[recall]")).cases] == ["quality"]


def test_batch_sizes_are_planned_from_small_to_large(config):
    planned = plan(config("batch.sizes=[8,1,4]", "metrics=[latency]"))
    assert [case.batch_size for case in planned.cases] == [1, 4, 8]


def test_a_plan_names_model_device_and_precision(config):
    planned = plan(config("model=sam_vit_b", "model.weights=random", "precision=bf16"))
    assert planned.name == "sam_vit_b · cpu · bf16"
    assert (planned.model, planned.device, planned.precision) == ("sam_vit_b", "cpu", "bf16")


def test_auto_chooses_the_gpu_if_there_is_one(gpu):
    assert find_device(DeviceConfig(name="auto")).kind == "cuda"


def test_auto_chooses_the_cpu_if_there_is_no_gpu():
    assert find_device(DeviceConfig(name="auto")).kind == "cpu"


def test_an_installed_gpu_that_auto_cannot_use_is_a_warning_with_the_reason(config, monkeypatch):
    monkeypatch.setattr(machine, "has_nvidia_gpu", lambda: True)
    monkeypatch.setattr(Cuda, "why_absent", lambda self: "the driver supports CUDA 11.4")
    warning = "device=auto uses cpu: the NVIDIA GPU of this machine cannot be used (the driver supports CUDA 11.4)"
    assert plan(config("device=auto")).warnings == (warning,)
    assert plan(config("device=cpu")).warnings == ()


def test_a_plan_names_the_gpu_by_its_index(config, gpu):
    planned = plan(config("device=cuda", "device.index=1", "precision=tf32"))
    assert planned.device == "cuda:1"
    assert planned.precision == "tf32"


# ---------------------------------------------------------------------------------------------------- refused groups
def test_random_weights_refuse_quality_metrics_and_keep_the_others(config):
    planned = plan(config("model.weights=random"))
    reason = "random weights have no quality to measure"
    assert planned.refused == {"recall": reason, "classification": reason}
    assert planned.unsuited["evaluation"] == "no quality metric is measured, so there is no evaluation pass"
    assert [case.id for case in planned.cases] == ["batch-1", "batch-2", "batch-4", "batch-8"]


def test_recall_is_refused_for_a_model_without_embeddings(config):
    planned = plan(config("model=vit_b16", "metrics=[latency,recall]"))
    assert planned.refused["recall"] == (
        "a model for image classification does not give caption_embeddings and image_embedding"
    )
    assert [case.id for case in planned.cases] == ["batch-1", "batch-2", "batch-4", "batch-8"]


def test_quality_metrics_of_other_tasks_are_unsuited_and_not_refused_if_one_fits_the_model(config):
    planned = plan(config("model=vit_b16"))
    assert planned.refused == {}
    segmentation = {"segmentation", "semantic_segmentation"}
    others = {"recall", "depth", "detection", "captioning", "question_answering", "features"}
    assert set(planned.unsuited) == segmentation | others | {"endpoint", "cost"}
    assert planned.cases[-1].metrics == ("classification", "evaluation")


def test_the_evaluation_metric_without_a_quality_metric_plans_no_quality_case(config):
    planned = plan(config("metrics=[latency,evaluation]"))
    assert planned.unsuited == {"evaluation": "no quality metric is measured, so there is no evaluation pass"}
    assert all(case.timed for case in planned.cases)


def test_data_that_is_read_from_a_folder_needs_data_root(config):
    with pytest.raises(ConfigError, match="'data.root' has no value; give it one, as in data.root=…"):
        plan(config("data=image_folder"))


def test_data_that_is_not_read_from_a_folder_refuses_data_root(config):
    with pytest.raises(ConfigError, match="data.root=x: data=shapes does not use data.root; remove it"):
        plan(config("data.root=x"))


def test_recall_is_refused_for_data_without_captions(config):
    planned = plan(config("data=image_folder", "data.root=x", "model.options.part=image"))
    assert planned.refused == {"recall": "data=image_folder has no captions"}
    assert planned.cases[-1].metrics == ("classification", "evaluation")


# ---------------------------------------------------------------------------------------------------------- warnings
def test_fp16_on_a_cpu_is_a_warning(config):
    planned = plan(config("precision=fp16"))
    assert planned.warnings == ("fp16 on a CPU is emulated in places, and many times slower than fp32",)


def test_other_precisions_and_fp16_on_a_gpu_are_no_warning(config, gpu):
    assert plan(config("precision=bf16", "device=cpu")).warnings == ()
    assert plan(config("precision=fp16", "device=cuda")).warnings == ()


# ---------------------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["batch.sizes=[]"], "batch.sizes=[]: no batch size is given; give at least one, as in batch.sizes=[1,2,4]"),
        (["batch.sizes=[4,0]"], "batch.sizes=[4,0]: 0 is not a batch size; the smallest is 1"),
        (["batch.sizes=[-2]"], "batch.sizes=[-2]: -2 is not a batch size; the smallest is 1"),
        (["batch.sizes=[1,4,1]"], "batch.sizes=[1,4,1]: 1 is listed twice; list each size once"),
        (
            ["precision=tf32"],
            "precision=tf32: TF32 is a mode of NVIDIA GPUs; on a CPU use fp32 or bf16",
        ),
        (
            ["precision.autocast=true"],
            "precision.autocast=true: weights are in float32, so precision.dtype=float32 changes nothing; "
            "use precision.dtype=bfloat16 or precision.dtype=float16",
        ),
        (
            ["precision=int8_dynamic", "precision.quantization=int8_dynamc"],
            "precision.quantization=int8_dynamc: no such value; did you mean 'int8_dynamic'?",
        ),
        (
            ["precision=autocast_bf16", "precision.quantization=int8_dynamic"],
            "precision.quantization=int8_dynamic: not with precision.autocast=true; use one of them",
        ),
        (["device=cuda"], f"device=cuda, device.index=0: {ABSENT}; use device=auto or device=cpu"),
        (["device.name=cdua"], "device.name=cdua: no such value; did you mean 'cuda'?"),
        (["device.index=-1"], "device.index=-1: must be at least 0; devices are counted from 0"),
        (["device.threads=0"], "device.threads=0: must be at least 1"),
        (["precision.dtype=float8"], "precision.dtype=float8: no such value; did you mean 'float32'?"),
        (["model.weights=randon"], "model.weights=randon: no such value; did you mean 'random'?"),
        (["model.attention=spda"], "model.attention=spda: no such value; did you mean 'sdpa'?"),
        (
            ["tracking.uri=mlruns"],
            "tracking.uri=mlruns: not an address; a SQLite file is sqlite:///mlruns, a server http://…",
        ),
        (["tracking.timeout_seconds=0"], "tracking.timeout_seconds=0.0: must be more than 0"),
        (["tracking.timeout_seconds=nan"], "tracking.timeout_seconds=nan: not a number; give a number from 0 to 3,600"),
        (
            ["tracking.experiment=' '"],
            "tracking.experiment is empty; give a name, as in tracking.experiment=visionbench",
        ),
        (["model.name=a/b"], "model.name='a/b': not a name for a folder; give a name without slashes"),
        (["output_dir="], "output_dir is empty; give a folder, as in output_dir=outputs"),
        (["tracking.name=mlfow"], "tracking.name=mlfow: no such value; did you mean 'mlflow'?"),
        (["model.family=dual_encode"], "there is no 'dual_encode' among the models; did you mean 'dual_encoder'?"),
        (
            ["model.checkpoint=null"],
            "model clip_tiny has no checkpoint; give model.checkpoint=… or model.weights=random",
        ),
        (["measure.latency.calls=0"], "measure.latency.calls=0: must be at least 1"),
        (["measure.throughput.in_flight=0"], "measure.throughput.in_flight=0: must be at least 1"),
        (
            ["measure.latency.percentile=99"],
            "measure.latency.percentile=99.0: must be between 0 and 1; give one, as in 0.99",
        ),
        (
            ["metrics=[recall]", "model.weights=random"],
            "metrics: nothing is left to measure; recall: random weights have no quality to measure",
        ),
        (["metrics=[]"], "metrics=[]: no metric is chosen; choose some, as in metrics=[latency,memory]"),
        (
            ["data=image_folder", "data.root=x"],
            "data=image_folder has no captions, which model clip_tiny reads; choose other data, "
            "or a part of the model that does not read it (model.options.part=image)",
        ),
        (
            ["model.options.prat=image"],
            "there is no key 'model.options.prat'; did you mean 'model.options.part'?",
        ),
    ],
)
def test_a_config_that_cannot_work_is_refused_in_one_line(refusal, overrides, message):
    assert refusal(*overrides) == message


@pytest.mark.parametrize(
    "uri",
    [
        *("sqlite:", "sqlite://", "sqlite:///", "sqlite:///?x=1", "sqlite:///:memory:", "sqlite+pysqlite:///:memory:"),
        *("sqlite:///file::memory:?uri=true", "sqlite:///file:x?mode=memory&uri=true"),
    ],
)
def test_a_tracking_store_in_memory_is_refused(config, uri):
    with pytest.raises(ConfigError) as caught:
        plan(config(f"tracking.uri='{uri}'"))
    remedy = "a store in memory is lost at the end; give a file, as in sqlite:///mlflow.db"
    assert str(caught.value) == f"tracking.uri={uri}: {remedy}"


def test_an_address_of_a_file_with_too_few_slashes_is_refused_with_the_address(config):
    with pytest.raises(
        ConfigError, match=r"tracking\.uri=sqlite://my\.db: not an address of a file; write sqlite:///my"
    ):
        plan(config("tracking.uri=sqlite://my.db"))


@pytest.mark.parametrize("kind, base", [("trackers", "none.NoTracker"), ("devices", "cpu.Cpu")])
@pytest.mark.usefixtures("own_parts_forgotten")
def test_a_tracker_or_device_may_be_a_module_on_pythonpath(config, tmp_path, monkeypatch, kind, base):
    module, _, name = base.partition(".")
    source = f"from visionbench.{kind}.{module} import {name}\nfrom visionbench.registry import register\n"
    own = f"own_of_{kind}"
    (tmp_path / f"{own}.py").write_text(f"{source}\n@register('{kind}', '{own}')\nclass Own({name}): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert plan(config(f"{'tracking' if kind == 'trackers' else 'device'}.name={own}")).cases


@pytest.mark.parametrize("stage, name", [("warmup", "max_ratio"), ("latency", "median_within")])
def test_only_the_kind_of_the_chosen_device_needs_tolerances(config, stage, name):
    settings = config()
    by_kind = getattr(getattr(settings.measure, stage), name)
    del by_kind["cuda"]
    assert plan(settings).device == "cpu"
    del by_kind["cpu"]
    key = f"measure.{stage}.{name}"
    with pytest.raises(ConfigError, match=f"^{key} has no value for cpu; add {key}.cpu=…$"):
        plan(settings)


def test_the_protocol_is_named_with_the_overrides_that_change_it(config):
    plain = config("measure=quick")
    assert plan(plain).protocol == "quick"
    typed = ["model=clip_tiny", "measure.latency.calls=7", "+measure.warmup.calls=2", "measure=quick"]
    assert plan(plain, typed).protocol == "quick with measure.latency.calls=7 +measure.warmup.calls=2"


def test_data_exif_is_stored_or_turned_and_stored_needs_masks(config, refusal):
    masks = ("data=coco_instances", "data.root=nowhere", "model=sam_tiny", "metrics=[segmentation]")
    for frame in ("stored", "turned", "null"):
        assert plan(config(*masks, f"data.exif={frame}")).cases
    assert refusal(*masks, "data.exif=upright").startswith("data.exif=upright: no such value")
    bare = ("data=image_folder", "data.root=nowhere", "model=classifier_tiny", "metrics=[latency]")
    assert plan(config(*bare, "data.exif=turned")).cases
    assert refusal(*bare, "data.exif=stored") == (
        "data.exif=stored: data=image_folder gives no masks, and images without masks are always turned; "
        "remove data.exif"
    )


# ----------------------------------------------------------------------------------------------------------------- load
def test_serving_is_a_case_between_batch_sizes_and_quality(config):
    planned = plan(config("batch=single", "metrics=[latency,serving,recall]", "serving.max_batch=4"))
    assert [case.id for case in planned.cases] == ["batch-1", "serving", "quality"]
    assert planned.cases[1] == Case("serving", 4, ("serving",), ("serving",))


def test_serving_alone_measures_no_batch_size(config):
    assert [case.id for case in plan(config("metrics=[serving]")).cases] == ["serving"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["serving.arrivals=poison"], "serving.arrivals=poison: no such value; did you mean 'poisson'?"),
        (
            ["serving.p95_ms=50"],
            "serving.p95_ms=50 and serving.p99_ms=100: a run has one bound; set the others to null, as in "
            "serving.p99_ms=null",
        ),
        (
            ["serving.p99_ms=null"],
            "serving.p90_ms, serving.p95_ms and serving.p99_ms are null; give one, in milliseconds",
        ),
        (["serving.p99_ms=0"], "serving.p99_ms=0.0: must be more than 0"),
        (
            ["serving.arrivals=closed", "serving.loads=[5]"],
            "serving.loads=[5]: serving.arrivals=closed has no loads, but clients; give serving.clients=[…], or "
            "another serving.arrivals",
        ),
        (
            ["serving.clients=[8]"],
            "serving.clients=[8]: only serving.arrivals=closed uses it; add serving.arrivals=closed",
        ),
        (
            ["serving.arrivals=closed", "serving.clients=[]"],
            "serving.clients=[]: no number of clients is given; give some, as in serving.clients=[1,2]",
        ),
        (["serving.arrivals=closed", "serving.clients=[0]"], "serving.clients[0]=0: must be at least 1"),
        (["serving.loads=[5,5.0]"], "serving.loads=[5,5]: 5 is listed twice; list each value once"),
        (["serving.loads=[0]"], "serving.loads[0]=0.0: must be more than 0; give requests per second, as in 10"),
        (["serving.loads=[-1]"], "serving.loads[0]=-1.0: must be more than 0; give requests per second, as in 10"),
        (["serving.max_batch=0"], "serving.max_batch=0: must be at least 1"),
        (["serving.max_wait_ms=-1"], "serving.max_wait_ms=-1.0: must be at least 0"),
        (
            ["measure.serving.min_seconds=90"],
            "measure.serving.min_seconds=90 is more than measure.serving.max_seconds=6; increase the second one",
        ),
    ],
)
def test_a_load_that_cannot_be_measured_is_refused_in_one_line(config, overrides, message):
    with pytest.raises(ConfigError) as refusal:
        plan(config("metrics=[serving]", *overrides))
    assert str(refusal.value) == message
