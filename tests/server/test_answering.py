"""The text of a stream: its parts are final, and together they are the complete text."""

import pytest

from visionbench.server.answering import GrowingText, cut

WORDS = ["a", " red", " circle", ".", " The", " end"]


def to_text(tokens):
    return "".join(WORDS[token] for token in tokens).strip()


def parts(growing, tokens, complete):
    return [*(growing.add(token) for token in tokens), growing.finish(complete)]


def test_each_token_is_given_at_once():
    assert parts(GrowingText(to_text), range(6), "a red circle. The end") == [*WORDS, ""]


def test_the_last_word_is_kept_back_if_a_token_may_change_it():
    def join(tokens):
        return to_text(tokens).replace("circle.", "circle!")

    given = parts(GrowingText(join, joins_words=True), range(4), "a red circle!")
    assert given == ["", "a", " red", "", " circle!"]


@pytest.mark.parametrize("stop", ["circle", "d c", " The", "d"])
def test_no_part_of_a_stop_string_is_given(stop):
    complete = to_text(range(6))
    before = cut(complete, [stop])
    growing = GrowingText(to_text, [stop])
    assert "".join(parts(growing, range(6), before)) == before == complete.partition(stop)[0]


def test_a_stop_string_that_does_not_occur_keeps_nothing():
    growing = GrowingText(to_text, [" red square"])
    assert "".join(parts(growing, range(6), to_text(range(6)))) == to_text(range(6))


def test_the_first_of_several_stop_strings_ends_the_text():
    assert cut("a red circle", ["circle", "red"]) == "a "
    assert cut("a red circle", ["blue"]) is None


def test_half_a_character_is_kept_back():
    texts = {1: "caf", 2: "caf\ufffd", 3: "café"}
    growing = GrowingText(lambda tokens: texts[len(tokens)])
    assert parts(growing, range(3), "café") == ["caf", "", "é", ""]


def test_a_text_that_changed_is_an_error():
    growing = GrowingText(to_text)
    growing.add(0)
    with pytest.raises(ValueError, match="changed"):
        growing.finish("the red circle")
