"""Detectors with fixed classes and zero-shot detectors: inputs of several sizes, boxes in pixels, classes, queries."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as t
from PIL import Image
from saved_models import DECODER, EDGES, SQUARE, STAGES, VIT, save_pair
from sklearn.datasets import load_sample_images
from transformers import PreTrainedTokenizerFast

from visionbench.config import InputsConfig, ModelConfig, build_part, models, project_folder
from visionbench.core import ConfigError, Example, Picture
from visionbench.models.zero_shot_detector import OneText
from visionbench.plan import plan
from visionbench.stages import flops
from visionbench.stages.inputs import assemble, preprocess
from visionbench.stages.load import check_output_follows_input

CPU = torch.device("cpu")
COLUMNS = frozenset({"boxes", "box_scores", "box_classes"})
NAMES = {0: "cat", 1: "dog", 2: "tvmonitor"}
LABELS = {"id2label": NAMES, "label2id": {name: index for index, name in NAMES.items()}}
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
RT_BACKBONE = {"embedding_size": 8, "hidden_sizes": [8, 16, 32], "depths": [1, 1, 1], "layer_type": "basic"}
RT_DETR = {
    "encoder_in_channels": [8, 16, 32],
    "feat_strides": [4, 8, 16],
    "encoder_hidden_dim": 32,
    "encoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "d_model": 32,
    "decoder_in_channels": [32, 32, 32],
    "decoder_ffn_dim": 32,
    "decoder_attention_heads": 2,
    "decoder_layers": 2,
    "num_queries": 7,
}


def detr():
    backbone = t.ResNetConfig(**STAGES, embedding_size=8, out_features=["stage4"])
    own = {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None, "backbone_config": backbone}
    return t.DetrForObjectDetection(t.DetrConfig(**DECODER, **own, **LABELS)), t.DetrImageProcessor(size=EDGES)


def rt_detr_v2():
    backbone = t.RTDetrResNetConfig(**RT_BACKBONE, out_indices=[1, 2, 3])
    model = t.RTDetrV2ForObjectDetection(t.RTDetrV2Config(**RT_DETR, backbone_config=backbone, **LABELS))
    return model, t.RTDetrImageProcessor(size=SQUARE)


def yolos():
    config = t.YolosConfig(**{**VIT, "image_size": [32, 32]}, num_detection_tokens=5, **LABELS)
    return t.YolosForObjectDetection(config), t.YolosImageProcessor(size=EDGES)


CLOSED = {"detr": detr, "rt_detr_v2": rt_detr_v2, "yolos": yolos}
OPEN = {
    "owlv2_base": {
        "projection_dim": 32,
        "text_config": {**TEXT, "vocab_size": 99, "bos_token_id": 97, "eos_token_id": 98},
        "vision_config": {**TEXT, "image_size": 64, "patch_size": 16},
    },
    "grounding_dino_tiny": {
        "d_model": 32,
        "num_queries": 7,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "backbone_config": {
            "model_type": "swin",
            "image_size": 64,
            "embed_dim": 8,
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 1, 1, 1],
            "window_size": 4,
            "out_indices": [2, 3, 4],
        },
        "text_config": {"model_type": "bert", "vocab_size": 2000, **TEXT},
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Checkpoints of small detectors with fixed classes."""
    root = tmp_path_factory.mktemp("detectors")
    torch.manual_seed(0)
    for name, build in CLOSED.items():
        save_pair(*build(), root / name)
    return root


@pytest.fixture(scope="module")
def photographs():
    """Two photographs, as they are and as portraits."""
    images = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    return [images[0], images[1].crop((100, 0, 350, 427))]


def closed(folder, name, **options):
    return ModelConfig(name, "object_detector", str(folder / name), options=options)


def zero_shot(name, **options):
    model = models()[name]
    model.weights = "random"
    model.architecture = {"model_type": model.architecture["model_type"], **OPEN[name]}
    size = {"height": 64, "width": 64} if name == "owlv2_base" else {"shortest_edge": 96, "longest_edge": 192}
    model.image_processor = {**model.image_processor, "size": size}
    model.options = {**model.options, **options}
    return model


def load(model, dtype=torch.float32):
    return build_part("models", model.family, model.options, "model.options").load(model, CPU, dtype)


def every(folder):
    return [*(closed(folder, name) for name in CLOSED), *map(zero_shot, OPEN)]


def pictures_of(photographs):
    return [Picture(Example(str(index), Path(str(index))), image) for index, image in enumerate(photographs)]


def predict(loaded, photographs, classes):
    with torch.inference_mode():
        evaluator = loaded.evaluator(COLUMNS, classes)
        pictures = pictures_of(photographs)
        return evaluator.finish(evaluator.forward(evaluator.prepare(pictures)), pictures)


def timed(loaded, photographs, tmp_path):
    """Return the timed inputs of the photographs, read from files."""
    examples = []
    for index, image in enumerate(photographs):
        image.save(tmp_path / f"{index}.png")
        examples.append(Example(str(index), tmp_path / f"{index}.png"))
    return preprocess(loaded, examples, InputsConfig(distinct_samples=8, max_mib=64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("index", range(5))
def test_a_different_photograph_changes_the_output(index, dtype, folder, photographs, tmp_path):
    loaded = load(every(folder)[index], dtype)
    check_output_follows_input(loaded, timed(loaded, photographs, tmp_path).singles, CPU, dtype)


@pytest.mark.parametrize("index", range(5))
def test_timed_inputs_have_one_size_and_a_label_for_the_padding(index, folder, photographs, tmp_path):
    loaded = load(every(folder)[index])
    inputs = timed(loaded, photographs, tmp_path)
    shapes = {tuple(single["pixel_values"].shape) for single in inputs.singles}
    assert len(shapes) == 1
    batch = next(assemble(inputs.singles, 2, CPU, torch.float32))
    with torch.inference_mode():
        logits, boxes = loaded.call(batch)
    assert (len(logits), boxes.shape[-1]) == (2, 4)
    own = [loaded.processor(images=[image], return_tensors="pt")["pixel_values"].shape for image in photographs]
    if own[0] == own[1]:
        assert not inputs.samples.labels
        return
    height, width = (max(shape[side] for shape in own) for side in (2, 3))
    assert shapes == {(1, 3, height, width)}
    share = 1 - sum(shape[2] * shape[3] for shape in own) / (2 * height * width)
    mask = "with" if "pixel_mask" in batch else "without"
    text = (
        f"images of 2 sizes are padded to {height}x{width} {mask} a pixel mask: {share:.0%} of the pixels are padding"
    )
    assert inputs.samples.labels == {"padding": text}
    if "pixel_mask" in batch:
        assert [int(mask.sum()) for mask in batch["pixel_mask"]] == [shape[2] * shape[3] for shape in own]


@pytest.mark.parametrize("name", CLOSED)
def test_boxes_are_those_of_transformers_in_pixels_of_the_image(name, folder, photographs):
    rows = predict(load(closed(folder, name)), photographs, list(NAMES.values()))
    model = t.AutoModelForObjectDetection.from_pretrained(folder / name).eval()
    processor = t.AutoImageProcessor.from_pretrained(folder / name)
    for image, row in zip(photographs, rows, strict=True):
        inputs = processor(images=[image], return_tensors="pt")
        if name == "yolos":
            del inputs["pixel_mask"]
        with torch.inference_mode():
            output = model(**inputs)
        sizes = [(image.height, image.width)]
        (found,) = processor.post_process_object_detection(output, threshold=0, target_sizes=sizes)
        order = np.argsort(-found["scores"].numpy(), kind="stable")
        corners = found["boxes"].numpy()[order]
        np.testing.assert_allclose(row["box_scores"], found["scores"].numpy()[order], atol=1e-5)
        np.testing.assert_allclose(row["boxes"][:, :2], corners[:, :2], atol=0.05)
        np.testing.assert_allclose(row["boxes"][:, :2] + row["boxes"][:, 2:], corners[:, 2:], atol=0.05)
        np.testing.assert_array_equal(row["box_classes"], found["labels"].numpy()[order])


@pytest.mark.parametrize("index", range(5))
def test_the_boxes_of_an_image_do_not_depend_on_the_batch(index, folder, photographs):
    loaded = load(every(folder)[index])
    images = [*photographs, photographs[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    together = predict(loaded, images, list(NAMES.values()))
    for image, row in zip(images, together, strict=True):
        (alone,) = predict(loaded, [image], list(NAMES.values()))
        for column in COLUMNS:
            np.testing.assert_allclose(row[column], alone[column], atol=1e-3)


def test_only_classes_of_the_data_are_kept_and_most_boxes_is_their_number(folder, photographs):
    every_box = predict(load(closed(folder, "rt_detr_v2")), photographs, list(NAMES.values()))[0]
    (cats, *_) = predict(load(closed(folder, "rt_detr_v2")), photographs, ["cat"])
    kept = every_box["box_classes"] == 0
    np.testing.assert_allclose(cats["box_scores"], every_box["box_scores"][kept])
    (few, *_) = predict(load(closed(folder, "rt_detr_v2", most_boxes=2)), photographs, list(NAMES.values()))
    np.testing.assert_allclose(few["box_scores"], every_box["box_scores"][:2])
    with pytest.raises(ConfigError, match="most_boxes=0: must be at least 1; COCO evaluates 100"):
        load(closed(folder, "detr", most_boxes=0))


def test_classes_are_matched_by_name_and_by_the_names_of_pascal_voc(folder, photographs):
    loaded = load(closed(folder, "detr"))
    rows = predict(loaded, photographs, ["TV", "Dog"])
    assert set(np.concatenate([row["box_classes"] for row in rows])) <= {0, 1}
    with pytest.raises(ConfigError, match="does not have 1 of the data's 2 classes, such as 'bird'"):
        predict(loaded, photographs, ["cat", "bird"])


@pytest.mark.parametrize("index", range(5))
def test_flops_are_counted(index, folder, photographs, tmp_path):
    loaded = load(every(folder)[index])
    batch = next(assemble(timed(loaded, photographs, tmp_path).singles, 2, CPU, torch.float32))
    work = flops.count(loaded, flops.copy_without_values(loaded), batch)
    assert work["image"].flop > 0
    with torch.inference_mode():
        again = flops.count(loaded, flops.copy_without_values(loaded), batch)
    assert again["image"].flop == work["image"].flop


@pytest.mark.parametrize("name", ["detr", "yolos"])
def test_an_image_size_makes_squares_without_padding(name, folder, photographs, tmp_path):
    loaded = load(closed(folder, name, image_size=64))
    inputs = timed(loaded, photographs, tmp_path)
    assert {tuple(single["pixel_values"].shape) for single in inputs.singles} == {(1, 3, 64, 64)}
    assert not inputs.samples.labels
    assert all(len(row["boxes"]) for row in predict(loaded, photographs, list(NAMES.values())))


@pytest.mark.parametrize(("name", "padded"), [("detr", True), ("yolos", False)])
def test_a_runtime_pads_an_image_only_if_the_model_takes_a_mask(name, padded, folder, photographs, tmp_path):
    loaded = load(closed(folder, name))
    timed(loaded, photographs, tmp_path)
    executed = loaded.with_graphs({"image": loaded.graphs()["image"]})
    with torch.inference_mode():
        if padded:
            assert tuple(executed.preprocess(photographs[1:], [""])["pixel_values"].shape[-2:]) == tuple(loaded.frame)
            rows, alone = (predict(one, photographs, list(NAMES.values())) for one in (executed, loaded))
            assert [len(row["boxes"]) for row in rows] == [len(row["boxes"]) for row in alone]
            return
        for call in (
            lambda: executed.preprocess(photographs[:1], [""]),
            lambda: predict(executed, photographs, ["cat"]),
        ):
            with pytest.raises(ConfigError, match=r"an image has .* pixels; give all images one size"):
                call()


def test_queries_of_a_timed_call_are_an_option_and_those_of_quality_are_the_classes(photographs):
    for name, shape in (("owlv2_base", (1, 3, 16)), ("grounding_dino_tiny", (1, 8))):
        loaded = load(zero_shot(name, queries=["cat", "dog", "bird"]))
        assert loaded.preprocess(photographs[:1], [""])["input_ids"].shape == shape
        assert loaded.identity["queries"] == ["cat", "dog", "bird"]
        rows = predict(loaded, photographs, ["cat", "dog"])
        assert set(np.concatenate([row["box_classes"] for row in rows])) <= {0, 1}


@pytest.mark.parametrize("name", OPEN)
def test_scores_do_not_depend_on_the_order_of_the_queries(name, photographs):
    loaded = load(zero_shot(name))
    (one,) = predict(loaded, photographs[:1], ["cat", "dog"])
    (two,) = predict(loaded, photographs[:1], ["dog", "cat"])
    np.testing.assert_allclose(np.sort(one["box_scores"]), np.sort(two["box_scores"]), atol=0.05)


def test_the_score_of_a_class_is_the_mean_over_its_tokens():
    layout = OneText(t.GroundingDinoConfig(), None, "{}")
    texts = layout.encode(["Traffic  light.", "dog"], "the test")
    assert texts.spans == ((1, 3), (4, 5))
    ids = texts.tensors["input_ids"][0].tolist()
    assert (ids[0], ids[3], ids[5], ids[6]) == (101, 1012, 1012, 102)
    logits = torch.tensor([[[0.0, 2.0, -1.0, 9.0, 0.5, 9.0, 9.0]]])
    scores = layout.class_logits(logits, texts).sigmoid()[0, 0]
    expected = [torch.tensor([2.0, -1.0]).sigmoid().mean(), torch.tensor(0.5).sigmoid()]
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_a_tokenizer_of_the_checkpoint_gives_the_tokens_of_the_joined_text():
    words = ["[PAD]", *(f"[unused{n}]" for n in range(99)), "[UNK]", "[CLS]", "[SEP]", "traffic", "light", "dog"]
    vocabulary = {**{word: index for index, word in enumerate(words)}, ".": 1012}
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers import models as kinds

    backend = Tokenizer(kinds.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]")
    layout = OneText(t.GroundingDinoConfig(), tokenizer, "{}")
    ids = layout.encode(["traffic light", "dog"], "the test").tensors["input_ids"][0].tolist()
    assert ids == [101, *tokenizer("traffic light. dog.", add_special_tokens=False)["input_ids"], 102]
    with pytest.raises(
        ConfigError, match="the text of the 200 names of the test has 402 tokens, and the model takes 256"
    ):
        layout.encode(["dog"] * 200, "the test")


def test_a_runtime_refuses_classes_with_texts_of_another_shape(photographs):
    loaded = load(zero_shot("owlv2_base", queries=["cat", "dog"]))
    executed = loaded.with_graphs({"image": loaded.graphs()["image"]})
    assert len(predict(executed, photographs, ["bird", "fish"])) == 2
    with pytest.raises(ConfigError, match=r"give them, as in model.options.queries=\[cat,dog,…\]"):
        predict(executed, photographs, ["cat", "dog", "bird"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queries": []}, "not a list of class names"),
        ({"queries": [" "]}, "not a list of class names"),
        ({"template": "a photo"}, "must contain {} once"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        load(zero_shot("owlv2_base", **options))


def test_shapes_of_an_executed_graph_are_the_shapes_of_the_call(folder, photographs, tmp_path):
    loaded = load(closed(folder, "detr"))
    batch = next(assemble(timed(loaded, photographs, tmp_path).singles, 2, CPU, torch.float32))
    with torch.inference_mode():
        executed = loaded.graphs()["image"](*loaded.graph_inputs("image", batch))
        for one, two in zip(executed, loaded.call(batch), strict=True):
            torch.testing.assert_close(one, two)
    assert replace(loaded, executed={}).work(2) == {"images": 2}


FULL = ("detr_r50", "rtdetr_v2_r18", "yolos_tiny", "owlv2_base", "grounding_dino_tiny")


@pytest.mark.parametrize("name", FULL)
def test_a_model_of_full_size_is_built_with_shapes_and_has_the_parameters_of_its_yaml(name):
    model = models()[name]
    model.weights = "random"
    loaded = build_part("models", model.family, model.options, "model.options").load(
        model, torch.device("meta"), torch.float32
    )
    count = sum(parameter.numel() for parameter in loaded.module.parameters())
    header = (project_folder("conf") / "model" / f"{name}.yaml").read_text().partition("name:")[0]
    assert f"{count:,} parameters" in header
    assert header.startswith(f"# visionbench run model={name} ")


@pytest.mark.parametrize("name", FULL)
def test_a_model_of_full_size_is_planned_with_random_weights(name, config):
    planned = plan(config(f"model={name}", "model.weights=random", "metrics=[all]", "device=cpu"))
    assert planned.task == "object detection"
    assert planned.refused["detection"] == "random weights have no quality to measure"
    assert "recall" in planned.unsuited
