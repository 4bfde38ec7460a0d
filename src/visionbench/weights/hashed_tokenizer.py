"""A tokenizer for random weights, which have no vocabulary: the hash of a word determines its id."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from zlib import crc32


class HashedTokenizer:
    """A tokenizer for random weights."""

    def __init__(self, config: Any) -> None:
        self.vocabulary = config.vocab_size
        self.begin, self.end = config.bos_token_id, config.eos_token_id
        if self.end == 2:  # released CLIP: the config has 2, but the model pools at the highest id, the true end token
            self.end = self.vocabulary - 1
        self.special = {self.begin, self.end, config.pad_token_id}

    def __call__(self, texts: Sequence[str], max_length: int, **_: Any) -> dict[str, Any]:
        """Return `input_ids` and `attention_mask` [B, max_length]: begin, words, end, then end as padding."""
        import torch

        ids = torch.full((len(texts), max_length), self.end)
        mask = torch.zeros_like(ids)
        for row, text in enumerate(texts):
            words = [hash_word(word, self.vocabulary, self.special) for word in text.lower().split()][: max_length - 2]
            ids[row, : len(words) + 1] = torch.tensor([self.begin, *words])
            mask[row, : len(words) + 2] = 1
        return {"input_ids": ids, "attention_mask": mask}


def hash_word(word: str, vocabulary: int, special: Collection[int]) -> int:
    """Return the id of a word below the size of a vocabulary, none of the special ids."""
    token = int(crc32(word.encode()) % vocabulary)
    while token in special:
        token = (token + 1) % vocabulary
    return token
