"""Vision-language models with small sizes: prompts, batches of images and texts of several sizes, parts and answers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from tiny_vision_language import BASES, NAMES, load, save, small
from torch.utils.flop_counter import FlopCounterMode

from visionbench import weights
from visionbench.config import ModelConfig, models
from visionbench.core import ConfigError, Example, Picture, Question
from visionbench.stages import flops
from visionbench.stages.inputs import assemble, concatenate
from visionbench.stages.load import check_output_follows_input

CPU = torch.device("cpu")
IDS = "input_ids"


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    """Four photographs of different sizes and shapes."""
    first, second = (Image.fromarray(pixels) for pixels in load_sample_images().images)
    return [first, second.resize((90, 40)), first.resize((33, 70)), second.resize((64, 64))]


def pictures(images, questions=("What is it?",)):
    """Pictures, each with these questions; the second has one more, the third none."""
    texts = [questions, (*questions, "Is the large object red or blue, and where is it?"), (), questions]
    return [
        Picture(Example(str(index), index, questions=tuple(Question(text, ("x",)) for text in own)), image)
        for index, (image, own) in enumerate(zip(images, texts, strict=True))
    ]


def predict(loaded, given, columns):
    with torch.inference_mode():
        evaluator = loaded.evaluator(frozenset(columns), ())
        return evaluator.finish(evaluator.forward(evaluator.prepare(given)), given)


def singles(loaded, images):
    return [loaded.preprocess([image], [""]) for image in images]


# -------------------------------------------------------------------------------------------------------------- inputs
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_a_different_image_changes_the_output(name, dtype, images):
    loaded = load(small(name), dtype)
    same_size = [image.resize((64, 48)) for image in images]
    given = singles(loaded, same_size)
    assert len({one[IDS].shape for one in given}) == 1
    check_output_follows_input(loaded, given, CPU, dtype)


@pytest.mark.parametrize("name", NAMES)
def test_the_identity_says_that_the_tokenizer_is_a_stand_in(name):
    loaded = load(small(name))
    assert loaded.identity["tokenizer"] == "stand-in"
    assert loaded.identity["template"] == loaded.options.template
    assert loaded.identity["parameters"] == sum(tensor.numel() for tensor in loaded.module.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_inputs_of_single_images_are_combined_to_the_inputs_of_the_batch(name, images):
    loaded = load(small(name))
    together = loaded.preprocess(images, [""] * 4)
    combined = loaded.collate(singles(loaded, images))
    assert combined.keys() == together.keys()
    for key, tensor in together.items():
        torch.testing.assert_close(combined[key], tensor, msg=key)


def test_images_of_several_sizes_have_several_numbers_of_tokens(images):
    loaded = load(small("qwen2_5_vl_3b"))
    with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
        concatenate(singles(loaded, images))
    batch = next(assemble(singles(loaded, images), 4, CPU, torch.float32, model=loaded))
    padding = (batch["attention_mask"] == 0).sum(dim=1)
    assert padding.min() == 0 < padding.max()
    for row, count in zip(batch["attention_mask"], padding, strict=True):
        assert not row[:count].any()  # the padding is on the left


@pytest.mark.parametrize("name", NAMES)
def test_the_tokens_of_images_are_labels(name, images):
    loaded = load(small(name))
    given = singles(loaded, images)
    features = [len(loaded.parts(one)["vision"].call()) for one in given]
    labels = loaded.describe_inputs(given)
    low, high = min(features), max(features)
    text = str(low) if low == high else f"{low} to {high}, mean {np.mean(features):.0f}"
    assert labels["image_tokens"] == text
    assert loaded.describe_inputs(given[:1])["prompt_tokens"] == str(given[0][IDS].shape[1])


def test_a_prompt_longer_than_the_positions_is_an_error_of_its_image(images):
    model = small("qwen2_5_vl_3b", prompt="word " * 4096)
    with pytest.raises(ValueError, match=r"its image and prompt have \d+ tokens, .* only 4096 positions"):
        load(model).preprocess(images[:1], [""])


# ---------------------------------------------------------------------------------------------------------- generation
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_writes_the_same_texts_as_single_images(name, images):
    """In fp32, for images and questions of several lengths, whose texts are padded."""
    loaded = load(small(name, answer_tokens=6, caption_tokens=6))
    loaded.module.generation_config.eos_token_id = None
    given = pictures(images) * 2
    together = predict(loaded, given, {"caption", "answers"})
    apart = [row for one in given for row in predict(loaded, [one], {"caption", "answers"})]
    assert together == apart
    assert [len(row["answers"]) for row in together] == [1, 2, 0, 1] * 2


@pytest.mark.parametrize("name", NAMES)
def test_a_timed_call_writes_exactly_the_configured_number_of_tokens(name, images):
    loaded = load(small(name, new_tokens=7))
    batch = loaded.preprocess(images[:2], ["", ""])
    with torch.inference_mode():
        answers = loaded.postprocess(loaded.call(batch), images[:2])
    assert [len(answer.split()) for answer in answers] == [7, 7]
    assert loaded.work(2) == {"images": 2, "tokens": 14}


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_a_caption_is_only_the_new_tokens(name, beams, images):
    loaded = load(small(name, caption_tokens=5, beams=beams))
    rows = predict(loaded, pictures(images), {"caption"})
    assert all(set(row) == {"caption"} and len(row["caption"].split()) <= 5 for row in rows)


def test_an_answer_from_nan_logits_is_nan_for_its_image_only(images):
    loaded = load(small("paligemma2_3b"))
    given = pictures(images)
    with torch.inference_mode():
        evaluator = loaded.evaluator(frozenset({"answers"}), ())
        batches = evaluator.prepare(given)
        batches["answers"][0]["pixel_values"][1, 0, 5, 5] = float("nan")
        rows = evaluator.finish(evaluator.forward(batches), given)
    assert isinstance(rows[0]["answers"], list)
    assert np.isnan(rows[1]["answers"])
    assert rows[2]["answers"] == []


def test_a_batch_of_questions_has_at_most_as_many_as_there_are_images(images):
    loaded = load(small("paligemma2_3b"))
    given = pictures(images[:2] + images[:2], questions=("a?", "b?", "c?"))
    batches = loaded.evaluator(frozenset({"answers"}), ()).prepare(given)["answers"]
    assert [len(batch[IDS]) for batch in batches] == [4, 4, 2]


# --------------------------------------------------------------------------------------------------------------- parts
@pytest.mark.parametrize("name", NAMES)
def test_the_parts_are_the_complete_work_of_a_call(name, images):
    model = small(name)
    model.attention = "eager"
    loaded = load(model)
    batch = loaded.preprocess(images, [""] * 4)
    work = flops.count(loaded, flops.copy_without_values(loaded), batch)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        loaded.call(batch)
    parts = loaded.parts(batch)
    assert list(work) == list(parts) == ["vision", "prefill", "decode"]
    assert sum(work[part].flop * parts[part].times for part in parts) == counter.get_total_flops() > 0


@pytest.mark.parametrize("name", NAMES)
def test_the_parts_write_the_first_token_of_a_call(name, images):
    """Of one image: the positions in a batch with padding are those of `generate` only."""
    loaded = load(small(name))
    inputs = loaded.preprocess(images[:1], [""])
    with torch.inference_mode():
        parts = loaded.parts(inputs)
        once, again = parts["decode"].call(), parts["decode"].call()
        prefill = parts["prefill"].call().logits[:, -1]
    assert torch.equal(once, again)  # a step does not change the length of the cache
    assert prefill.shape == loaded.probe_outputs(inputs)["image"].shape


@pytest.mark.parametrize("name", ["smolvlm2_256m", "llava_onevision_0_5b", "florence2_base"])
def test_prefill_computes_the_logits_of_the_complete_model(name, images):
    """Models with other positions or masks for images (Qwen, PaliGemma) have the same work, and other logits."""
    loaded = load(small(name))
    inputs = loaded.preprocess(images[:1], [""])
    with torch.inference_mode():
        prefill = loaded.parts(inputs)["prefill"].call().logits[:, -1]
        torch.testing.assert_close(prefill, loaded.probe_outputs(inputs)["image"], atol=1e-4, rtol=1e-4)


# ------------------------------------------------------------------------------------------- checkpoints and templates
@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return {name: save(name, tmp_path_factory.mktemp(name), chat=name != "paligemma2_3b") for name in NAMES}


def from_checkpoint(name, folder, **options) -> ModelConfig:
    model = models()[BASES.get(name, name)]
    kept = {key: value for key, value in model.options.items() if key != "processor"}
    model.checkpoint, model.revision, model.options = str(folder), None, {**kept, **options}
    return model


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_checkpoint_is_loaded_with_its_processor_and_template(name, checkpoints, images):
    loaded = load(from_checkpoint(name, checkpoints[name], answer_tokens=4))
    has_chat = name != "paligemma2_3b"
    assert loaded.identity["template"] == ("chat template" if has_chat else "<image>{prompt}")
    assert loaded.identity["tokenizer"] != "stand-in"
    assert loaded.render("What?") == ("user: <image> What? assistant:" if has_chat else "<image>What?")
    if name == "florence2_base":
        return  # its processor adds the image token itself, and its checkpoints have no chat template
    rows = predict(loaded, pictures(images), {"answers"})
    random = load(small(name, answer_tokens=4))
    assert all(isinstance(answer, str) for row in rows for answer in row["answers"])
    for key, tensor in random.module.state_dict().items():
        assert torch.equal(tensor, loaded.module.state_dict()[key])


def test_the_processor_argument_of_random_weights_must_be_one_of_the_class():
    with pytest.raises(
        ConfigError, match="SmolVLMProcessor has no argument image_tokens; did you mean 'image_seq_len'"
    ):
        load(small("smolvlm2_256m", processor={"image_tokens": 4}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"template": "<image>"}, r"model\.options\.template=<image>: it must contain \{prompt\} once"),
        ({"question": "{question} {question}"}, r"it must contain \{question\} once"),
        ({"new_tokens": 0}, r"model\.options\.new_tokens=0: must be at least 1"),
        ({"answer_tokens": 0}, r"model\.options\.answer_tokens=0: must be at least 1"),
        ({"processor": 7}, r"model\.options\.processor: a section has keys"),
        ({"prompt": None}, r"model\.options\.prompt"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        load(small("paligemma2_3b", **options))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("smolvlm2_256m", 256_484_928),
        ("smolvlm2_500m", 507_482_304),
        ("qwen2_5_vl_3b", 3_754_622_976),
        ("paligemma2_3b", 3_032_242_416),
    ],
)
def test_the_parameters_of_the_original_size_are_the_published_ones(name, parameters):
    model = models()[name]
    assert weights.count_parameters(model, "AutoModelForImageTextToText") == parameters


@pytest.mark.parametrize("name", ["smolvlm2_256m", "llava_onevision_0_5b", "florence2_base"])
def test_the_original_size_is_counted_on_the_meta_device(name, images):
    """The processor of random weights gives as many image tokens as the model has features."""
    model = models()[name]
    model.weights = "random"
    loaded = load(model, device="meta")
    inputs = loaded.preprocess(images[3:], [""])
    work = flops.count(loaded, flops.copy_without_values(loaded), inputs)
    assert set(work) == {"vision", "prefill", "decode"}
    tokens = int(loaded.describe_inputs([inputs])["image_tokens"])
    inputs.pop("attention_mask", None)  # transformers reads its values
    shapes = {key: tensor if key in loaded.host_inputs else tensor.to("meta") for key, tensor in inputs.items()}
    counted = replace(loaded, module=flops.copy_without_values(loaded))
    with torch.no_grad():
        assert len(counted.parts(shapes)["vision"].call()) == tokens
