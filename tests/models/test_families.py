"""Each family on real photographs, at a size that is quick: inputs, work, evidence and answers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from visionbench import weights
from visionbench.config import ModelConfig, models, part
from visionbench.pictures import decode
from visionbench.registry import ConfigError
from visionbench.stages.load import EvidenceError, check_evidence

CPU = torch.device("cpu")
ENCODER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL = {
    "clip_vit_b32": {
        "projection_dim": 16,
        "text_config": {**ENCODER, "vocab_size": 99, "bos_token_id": 97, "eos_token_id": 98, "pad_token_id": 98},
        "vision_config": {**ENCODER, "image_size": 224, "patch_size": 32},
    },
    "siglip2_base": {
        "text_config": {**ENCODER, "vocab_size": 99, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0},
        "vision_config": {**ENCODER, "image_size": 224, "patch_size": 16},
    },
    "sam_vit_b": {
        "vision_config": {
            "hidden_size": 32,
            "mlp_dim": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "global_attn_indexes": [1],
            "output_channels": 32,
            "num_pos_feats": 16,
        },
        "prompt_encoder_config": {"hidden_size": 32},
        "mask_decoder_config": {"hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 2, "iou_head_hidden_dim": 32},
    },
    "blip2_opt_2_7b": {
        "num_query_tokens": 4,
        "image_token_index": 98,
        "vision_config": {**ENCODER, "image_size": 224, "patch_size": 32},
        "qformer_config": {**ENCODER, "encoder_hidden_size": 32, "vocab_size": 99},
        "text_config": {
            "model_type": "opt",
            "vocab_size": 99,
            "hidden_size": 32,
            "ffn_dim": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "word_embed_proj_dim": 32,
            "bos_token_id": 2,
            "eos_token_id": 3,
            "pad_token_id": 1,
        },
    },
    "blip_base": {
        "vision_config": {**ENCODER, "image_size": 384, "patch_size": 64},
        "text_config": {
            **ENCODER,
            "vocab_size": 99,
            "encoder_hidden_size": 32,
            "bos_token_id": 96,
            "sep_token_id": 97,
            "pad_token_id": 0,
            "eos_token_id": 2,
        },
    },
    "vit_b16": {**ENCODER, "image_size": 224, "patch_size": 32, "num_labels": 7},
    "resnet50": {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 1], "num_labels": 7},
}


def small(name: str, **options) -> ModelConfig:
    """A shipped model's YAML with random weights and its sizes cut down."""
    model = models()[name]
    model.weights = "random"
    model.architecture = {"model_type": model.architecture["model_type"], **SMALL[name]}
    model.options = {**model.options, **options}
    return model


def load(model: ModelConfig, dtype=torch.float32):
    return part("models", model.family, model.options, "model.options").load(model, CPU, dtype)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> list[Image.Image]:
    """The two photographs that scikit-learn ships, one through JPEG and one through PNG."""
    folder = tmp_path_factory.mktemp("photographs")
    paths: list[Path] = []
    for pixels, suffix in zip(load_sample_images().images, ("jpg", "png"), strict=True):
        paths.append(folder / f"photograph.{suffix}")
        Image.fromarray(pixels).save(paths[-1])
    return [decode(path) for path in paths]


def singles(loaded, photographs):
    return [
        loaded.preprocess([one], [text]) for one, text in zip(photographs, ["a temple", "a red flower"], strict=True)
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", SMALL)
def test_a_different_photograph_changes_the_output(name, dtype, photographs):
    loaded = load(small(name), dtype)
    check_evidence(loaded, singles(loaded, photographs), CPU, dtype)


@pytest.mark.parametrize("name", SMALL)
def test_the_same_photograph_twice_is_no_evidence(name, photographs):
    loaded = load(small(name))
    with pytest.raises(EvidenceError, match="no two different inputs"):
        check_evidence(loaded, singles(loaded, photographs)[:1] * 2, CPU, torch.float32)


@pytest.mark.parametrize(("name", "side"), [("clip_vit_b32", 224), ("sam_vit_b", 1024), ("blip_base", 384)])
def test_pictures_come_in_the_size_that_the_processor_gives(name, side, photographs):
    loaded = load(small(name))
    assert loaded.preprocess(photographs, ["", ""])["pixel_values"].shape == (2, 3, side, side)


@pytest.mark.parametrize(
    ("part_", "inputs", "work"),
    [
        ("image", {"pixel_values"}, {"images": 2}),
        ("text", {"input_ids", "attention_mask"}, {"texts": 2}),
        ("both", {"pixel_values", "input_ids", "attention_mask"}, {"images": 2, "texts": 2}),
    ],
)
def test_a_dual_encoder_runs_the_part_that_is_asked_for(part_, inputs, work, photographs):
    loaded = load(small("clip_vit_b32", part=part_))
    batch = loaded.preprocess(photographs, ["a temple", "a flower"])
    assert set(batch) == inputs
    assert loaded.work(2) == work
    output = loaded.call(batch)
    assert {name: tuple(rows.shape) for name, rows in output.items()} == {
        name: (2, 16) for name in ("image", "text") if name in part_ or part_ == "both"
    }


def test_text_is_as_long_as_the_option_says_whatever_is_written(photographs):
    loaded = load(small("clip_vit_b32", text_tokens=9))
    ids = loaded.preprocess(photographs, ["a", "one two three four five six seven eight nine ten eleven"])["input_ids"]
    assert ids.shape == (2, 9)
    assert (ids[:, 0] == 97).all()
    assert (ids[:, -1] == 98).all()


def test_predictions_of_a_dual_encoder_hold_every_caption(photographs):
    loaded = load(small("clip_vit_b32"))
    with torch.inference_mode():
        found = loaded.predict(photographs, [("a temple",), ("a flower", "a red flower", "petals")])
    assert found["image_embeddings"].shape == (2, 16)
    assert found["text_embeddings"].shape == (4, 16)
    assert found["captions_per_image"].tolist() == [1, 3]
    with torch.inference_mode():
        alone = loaded.call(loaded.preprocess(photographs[1:], ["a red flower"]))["text"]
    np.testing.assert_allclose(found["text_embeddings"][2], alone[0], atol=1e-5)


def test_embeddings_are_handed_over_at_unit_length(photographs):
    loaded = load(small("siglip2_base"))
    with torch.inference_mode():
        answers = loaded.postprocess(loaded.call(loaded.preprocess(photographs, ["a", "b"])), photographs)
    assert len(answers) == 2
    for answer in answers:
        assert np.linalg.norm(answer["image"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("prompt", ["point", "box"])
def test_a_segmenter_answers_every_prompt_with_three_masks_of_the_pictures_size(prompt, photographs):
    loaded = load(small("sam_vit_b", prompt=prompt, prompts_per_image=3))
    batch = loaded.preprocess(photographs, ["", ""])
    assert loaded.work(2) == {"images": 2, "prompts": 6}
    with torch.inference_mode():
        masks = loaded.postprocess(loaded.call(batch), photographs)
    for mask, photograph in zip(masks, photographs, strict=True):
        assert mask.shape == (3, 3, photograph.height, photograph.width)
        assert mask.dtype == bool


def test_prompts_of_a_segmenter_lie_in_the_picture(photographs):
    batch = load(small("sam_vit_b", prompts_per_image=4)).preprocess(photographs, ["", ""])
    points = batch["input_points"].float()
    longest = 1024 / max(photographs[0].size)
    assert points.shape == (2, 4, 1, 2)
    assert (points >= 0).all()
    assert (points[0, :, 0] <= torch.tensor(photographs[0].size) * longest).all()


def test_the_parts_of_a_segmenter_together_are_the_whole(photographs):
    with torch.inference_mode():
        whole, encoder, decoder = (load(small("sam_vit_b", part=one)) for one in ("both", "encoder", "decoder"))
        embeddings = encoder.call(encoder.preprocess(photographs, ["", ""]))
        batch = decoder.preprocess(photographs, ["", ""])
        assert set(batch) == {"image_embeddings", "input_points"}
        torch.testing.assert_close(batch["image_embeddings"], embeddings)
        masks = whole.call(whole.preprocess(photographs, ["", ""])).pred_masks
        torch.testing.assert_close(decoder.call(batch).pred_masks, masks, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["blip2_opt_2_7b", "blip_base"])
def test_a_captioner_writes_exactly_as_many_tokens_as_it_says(name, photographs):
    loaded = load(small(name, new_tokens=7))
    batch = loaded.preprocess(photographs, ["", ""])
    with torch.inference_mode():
        few = loaded.call(batch)
        loaded.new_tokens = 12
        many = loaded.call(batch)
    assert many.shape[1] - few.shape[1] == 5
    assert loaded.work(2) == {"images": 2, "tokens": 24}
    assert [len(answer.split()) for answer in loaded.postprocess(many, photographs)] == [12, 12]


def test_the_prompt_of_blip2_holds_an_image_token_for_every_query(photographs):
    ids = load(small("blip2_opt_2_7b")).preprocess(photographs, ["", ""])["input_ids"]
    assert ids.tolist() == [[98, 98, 98, 98, 2]] * 2


def test_a_prompt_needs_the_tokenizer_of_the_checkpoint():
    with pytest.raises(ConfigError, match="random weights come without a tokenizer"):
        load(small("blip2_opt_2_7b", prompt="a photo of"))


@pytest.mark.parametrize("name", ["vit_b16", "resnet50"])
def test_a_classifier_names_a_class_for_each_picture(name, photographs):
    loaded = load(small(name))
    with torch.inference_mode():
        answers = loaded.postprocess(loaded.call(loaded.preprocess(photographs, ["", ""])), photographs)
    assert len(answers) == 2
    assert set(answers) <= {f"LABEL_{number}" for number in range(7)}


@pytest.mark.parametrize("name", SMALL)
def test_every_family_tells_the_parameters_it_has(name):
    loaded = load(small(name))
    assert loaded.identity["parameters"] == sum(tensor.numel() for tensor in loaded.module.parameters())
    assert loaded.identity["weights_bytes"] == weights.weights_bytes(loaded.module)
    assert loaded.identity["dtype"] == "float32"


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("clip_vit_b32", {"image": (1, 512), "text": (1, 512)}),
        ("clip_vit_l14", {"image": (1, 768), "text": (1, 768)}),
        ("siglip2_base", {"image": (1, 768), "text": (1, 768)}),
        ("sam_vit_b", {"image": (1, 1, 3, 256, 256)}),
        ("sam_vit_h", {"image": (1, 1, 3, 256, 256)}),
        ("blip_base", {"image": (1, 30524)}),
        ("vit_b16", {"image": (1, 1000)}),
        ("resnet50", {"image": (1, 1000)}),
    ],
)
def test_the_shipped_sizes_run_on_the_meta_device(name, shapes, photographs):
    model = models()[name]
    model.weights = "random"
    meta = torch.device("meta")
    loaded = part("models", model.family, model.options, "model.options").load(model, meta, torch.float32)
    inputs = weights.place(loaded.preprocess(photographs[:1], ["a temple"]), meta, torch.float32)
    inputs.pop("attention_mask", None)  # transformers looks into it, and on the meta device there is nothing to see
    assert {name: tuple(output.shape) for name, output in loaded.evidence(inputs).items()} == shapes


def test_the_towers_of_blip2_run_on_the_meta_device_at_the_shipped_size(photographs):
    """Joined they cannot: merging image tokens into the text looks at values, which the meta device has not."""
    model = models()["blip2_opt_2_7b"]
    model.weights = "random"
    meta = torch.device("meta")
    loaded = part("models", model.family, model.options, "model.options").load(model, meta, torch.bfloat16)
    inputs = weights.place(loaded.preprocess(photographs[:1], [""]), meta, torch.bfloat16)
    seen = loaded.module.vision_model(inputs["pixel_values"]).last_hidden_state
    queries = loaded.module.qformer(
        query_embeds=loaded.module.query_tokens.to(seen.dtype), encoder_hidden_states=seen
    ).last_hidden_state
    embedded = loaded.module.language_projection(queries)
    assert seen.shape == (1, 257, 1408)
    assert loaded.module.language_model(inputs_embeds=embedded).logits.shape == (1, 32, 50304)
