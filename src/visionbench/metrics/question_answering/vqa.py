"""The normalisation of answers that VQAv2's evaluation describes (visualqa.org/evaluation), and VQA accuracy.

The rules, in their order: line ends and tabs become spaces; punctuation is removed or replaced; a point stays only
before a digit; lower case; number words from zero to ten become digits; articles are removed; an apostrophe is added to
a contraction that lacks one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

ANSWERS = 10
"""The number of answers for which VQA accuracy is defined."""
ENOUGH = 3
"""The number of people whose answer makes a prediction fully correct."""
NUMBERS = {
    **{"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4"},
    **{"five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10"},
}
ARTICLES = frozenset({"a", "an", "the"})
PUNCTUATION = r""";/[]"{}()=+\_-><@`,?!"""
"""Punctuation that is removed or replaced. Apostrophes and colons stay: `girl's`, `2:50`."""
COMMA_IN_NUMBER = re.compile(r"\d,\d")
POINT = re.compile(r"\.(?!\d)")
CONTRACTIONS = tuple(
    """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd
    he'd've he's how'd how'll how's isn't it'd it'd've it'll let's ma'am mightn't mightn't've might've mustn't
    must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've
    somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll
    that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've
    weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll
    why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
    """.split()  # noqa: SIM905
)
"""The contractions that the rules complete. `its`, `were`, `well` and `ill` are words and stay."""


def _without_one(contraction: str) -> Iterator[str]:
    """Yield the spellings of a contraction that lack one of its apostrophes."""
    for index, character in enumerate(contraction):
        if character == "'":
            yield contraction[:index] + contraction[index + 1 :]


COMPLETED = {spelling: contraction for contraction in CONTRACTIONS for spelling in _without_one(contraction)}
"""Each incomplete spelling, with its contraction."""


def normalise(answer: str) -> str:
    """Return an answer by the rules of VQAv2."""
    text = _without_punctuation(re.sub(r"[\n\t]", " ", answer).strip())
    words = (NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(COMPLETED.get(word, word) for word in words if word not in ARTICLES)


def _without_punctuation(text: str) -> str:
    """Remove a mark if it is beside a space anywhere in the text, or if the text has a number such as 1,000. Replace it
    by a space otherwise. Then remove the points that are not before a digit."""
    in_number = COMMA_IN_NUMBER.search(text) is not None
    cleaned = text
    for mark in PUNCTUATION:
        removed = in_number or f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if removed else " ")
    return POINT.sub("", cleaned)


def vqa_accuracy(answer: str, references: Sequence[str]) -> float:
    """Return min(matches ÷ 3, 1), averaged over the subsets that leave out one of the people's answers.

    All answers are normalised before. Antol et al. 2015.
    """
    matches = np.array([answer == reference for reference in references], dtype=np.float64)
    return float(np.minimum((matches.sum() - matches) / ENOUGH, 1.0).mean())
