"""The families that can be served: texts with a prompt, texts by beam search, and the best class."""

import json

import pytest
import torch
import yaml
from openai import BadRequestError, OpenAI
from PIL import Image
from server.served import answering, data_url, messages, served
from tiny_vision_language import save, small

from visionbench.core import ConfigError, Picture
from visionbench.server.gate import Limits


def ask(url, model, image, text="Describe the image.", **more):
    with OpenAI(base_url=url, api_key="unused", max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(model=model, messages=messages(image, text), **more)
        return raw.headers, raw.parse()


@pytest.mark.parametrize("model", ["clip_tiny", "classifier_tiny"])
def test_the_answer_of_a_model_with_class_scores_is_the_name_of_the_best_class(model):
    with served(f"model={model}") as service, answering(service) as url:
        loaded = service.engine.base.loaded
        evaluator = service.engine.evaluator
        for example in loaded.examples[:4]:
            picture = Picture(example, loaded.decoding.decode(example))
            with torch.inference_mode():
                row = evaluator.finish(evaluator.forward(evaluator.prepare([picture])), [picture])[0]
            headers, answer = ask(url, model, data_url(example.image))
            assert answer.choices[0].message.content == evaluator.classes[int(row["class_scores"].argmax())]
            assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (0, 0)
            assert (headers["x-visionbench-streaming"], headers["x-visionbench-prompt"]) == ("end", "not read")


def test_beam_search_gives_the_caption_of_the_evaluation_and_is_streamed_at_the_end():
    with served("model=blip2_tiny", "+model.options.beams=3") as service, answering(service) as url:
        loaded = service.engine.base.loaded
        evaluator = loaded.model.evaluator(frozenset({"caption"}), ())
        example = loaded.examples[0]
        picture = Picture(example, loaded.decoding.decode(example))
        with torch.inference_mode():
            row = evaluator.finish(evaluator.forward(evaluator.prepare([picture])), [picture])[0]
        headers, answer = ask(url, "blip2_tiny", data_url(example.image))
        assert answer.choices[0].message.content == row["caption"]
        assert headers["x-visionbench-streaming"] == "end"
        with OpenAI(base_url=url, api_key="unused") as client:
            chunks = list(
                client.chat.completions.create(
                    model="blip2_tiny", messages=messages(data_url(example.image)), stream=True
                )
            )
        assert [chunk.choices[0].delta.content for chunk in chunks] == [row["caption"], None]


@pytest.fixture
def config_dir(tmp_path):
    """A folder with the YAML of a small vision-language model, and its checkpoint."""
    model = small("smolvlm2_256m", caption_tokens=6)
    save("smolvlm2_256m", tmp_path / "checkpoint")
    values = {
        "name": "tiny_vlm",
        "family": "vision_language",
        "checkpoint": str(tmp_path / "checkpoint"),
        "options": model.options,
        "architecture": model.architecture,
        "image_processor": model.image_processor,
    }
    (tmp_path / "my_conf" / "model").mkdir(parents=True)
    (tmp_path / "my_conf" / "model" / "tiny_vlm.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "my_conf"


def test_a_vision_language_model_reads_the_text_of_each_request(config_dir):
    with served("model=tiny_vlm", config_dir=config_dir) as service:
        model = service.model
        image = Image.new("RGB", (48, 32), "red")
        texts = ["What colour is it?", "How many objects are in the image, and where are they?"]
        expected = []
        loaded = service.engine.base.loaded.model
        for text in texts:
            with torch.inference_mode():
                tokens, _ = loaded.write(loaded.prepare_request(image, text), 6)
            expected.append(loaded.to_texts(tokens)[0])
        with answering(service) as url:
            for text, words in zip(texts, expected, strict=True):
                headers, answer = ask(url, model, data_url(image), text, max_tokens=6)
                assert answer.choices[0].message.content == words
                assert headers["x-visionbench-prompt"] == "read"
            assert ask(url, model, data_url(image), texts[1])[1].usage.prompt_tokens > 0
            with pytest.raises(BadRequestError):
                ask(url, model, data_url(image), "word " * 20_000)
    assert expected[0] != expected[1]


def test_a_dual_encoder_without_class_names_is_refused(tmp_path):
    (tmp_path / "images").mkdir()
    rows = []
    for index in range(2):
        Image.new("RGB", (32, 32), (index * 90, 0, 0)).save(tmp_path / "images" / f"{index}.png")
        rows.append({"image": f"images/{index}.png", "captions": ["a red square", "a blue ring"][index:][:1]})
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with (
        pytest.raises(ConfigError, match=r"no class names"),
        served("model=clip_tiny", "data=captioned_folder", f"data.root={tmp_path}", limits=Limits()),
    ):
        pass


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.compile
@pytest.mark.parametrize("words", [["precision=bf16"], ["precision=autocast_bf16"], ["runtime=compile"]], ids=str)
def test_precisions_and_runtimes_are_those_of_a_run(words):
    with served("model=clip_tiny", "serving.max_batch=2", *words) as service, answering(service) as url:
        image = data_url(service.engine.base.loaded.examples[0].image)
        assert ask(url, "clip_tiny", image)[1].choices[0].message.content
