"""The bundled CLIP: it loads offline, is small, and retrieves held-out images by captions and captions by images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visionbench.data.shapes import Shapes, compositions

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

FOLDER = Path(__file__).parents[1] / "data" / "clip_tiny"
IMAGES = 200


@pytest.fixture(scope="module")
def model() -> Any:
    return transformers.AutoModel.from_pretrained(FOLDER, local_files_only=True, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def processor() -> Any:
    return transformers.AutoProcessor.from_pretrained(FOLDER, local_files_only=True)


@pytest.fixture(scope="module")
def scores(model: Any, processor: Any, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Cosine of each of the 200 images with each of the 1,000 captions, five consecutive captions per image."""
    examples = Shapes(samples=IMAGES, cache_dir=str(tmp_path_factory.mktemp("cache"))).examples()
    images = [Image.open(example.image) for example in examples]
    captions = [caption for example in examples for caption in example.captions]
    with torch.inference_mode():
        inputs = processor(images=images, text=captions, return_tensors="pt", padding=True, truncation=True)
        outputs = model(**inputs)
    image_vectors, text_vectors = (
        np.asarray(side, dtype=np.float64) for side in (outputs.image_embeds, outputs.text_embeds)
    )
    image_vectors /= np.linalg.norm(image_vectors, axis=1, keepdims=True)
    text_vectors /= np.linalg.norm(text_vectors, axis=1, keepdims=True)
    return image_vectors @ text_vectors.T


def test_the_model_is_a_clip_of_less_than_a_million_parameters(model: Any, processor: Any) -> None:
    assert type(model) is transformers.CLIPModel
    assert type(processor) is transformers.CLIPProcessor
    assert 100_000 < sum(p.numel() for p in model.parameters()) < 1_000_000
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert (FOLDER / "model.safetensors").stat().st_size <= 3_000_000


def test_the_text_tower_pools_the_end_token(model: Any, processor: Any) -> None:
    """With an `eos_token_id` of 2, the model would pool the highest id, and padding would change the embedding."""
    end = processor.tokenizer.eos_token_id
    assert end == model.config.text_config.eos_token_id != 2
    assert processor.tokenizer.pad_token_id == model.config.text_config.pad_token_id
    short, long = "a small red ring above a large blue star", "there is a big blue star underneath a tiny red ring"
    with torch.inference_mode():
        alone, padded = (
            model.get_text_features(**processor(text=texts, return_tensors="pt", padding="longest")).pooler_output[0]
            for texts in ([short], [short, long + " and the small white cross"])
        )
    ids = processor(text=[short], return_tensors="pt")["input_ids"][0].tolist()
    assert ids[-1] == end and ids.count(end) == 1
    torch.testing.assert_close(alone, padded, atol=1e-5, rtol=1e-4)


def test_its_vocabulary_has_every_word_of_the_captions(processor: Any) -> None:
    unknown = processor.tokenizer.unk_token_id
    texts = [caption for part in compositions("test") for caption in part.captions]
    ids = processor.tokenizer(texts)["input_ids"]
    assert not any(unknown in row for row in ids)
    assert max(map(len, ids)) <= processor.tokenizer.model_max_length


def test_captions_are_retrieved_by_their_image(scores: np.ndarray) -> None:
    """By chance, 1 image of 200 would succeed. A tied candidate is ranked before the image's own captions."""
    hits = 0
    for index, row in enumerate(scores):
        own = range(5 * index, 5 * index + 5)
        best = max(row[i] for i in own)
        hits += all(row[i] < best for i in range(row.size) if i not in own)
    assert hits / IMAGES > 0.9


def test_images_are_retrieved_by_their_caption(scores: np.ndarray) -> None:
    hits = 0
    for caption in range(scores.shape[1]):
        order = sorted(range(IMAGES), key=lambda image: (-scores[image, caption], image == caption // 5))
        hits += order[0] == caption // 5
    assert hits / scores.shape[1] > 0.9


def test_captions_of_other_images_are_not_retrieved(scores: np.ndarray) -> None:
    """With the captions of the next image, the same ranking has almost no hits."""
    wrong = np.roll(scores, 5, axis=1)
    hits = sum(int(row.argmax()) // 5 == index for index, row in enumerate(wrong))
    assert hits / IMAGES < 0.05


def test_the_model_card_names_the_measured_figures() -> None:
    card = (FOLDER / "README.md").read_text("utf-8")
    for text in ("recall@10", "image to text", "text to image", "parameters", "seed"):
        assert text in card
