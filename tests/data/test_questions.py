"""Questions about images: lines of JSON, the files of VQAv2, and the messages for rows with another form."""

import json

import pytest

from visionbench.core import ConfigError, Question
from visionbench.data.questions import Questions
from visionbench.registry import find

LINE = {"image": "a.jpg", "question": "What colour?", "answers": ["red", "Red"]}


@pytest.fixture
def lines(tmp_path):
    """A function that writes lines of JSON, given as objects or texts, and returns their folder."""

    def write(*rows, name="questions.jsonl"):
        texts = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (tmp_path / name).write_text("\n".join(texts), "utf-8")
        return str(tmp_path)

    return write


@pytest.fixture
def vqa(tmp_path):
    """A function that writes VQAv2's two files and an image, and returns their folder."""

    def write(questions, annotations, image="val2014/COCO_val2014_000000000042.jpg"):
        (tmp_path / image).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / image).write_bytes(b"")
        (tmp_path / "v2_OpenEnded_mscoco_val2014_questions.json").write_text(json.dumps({"questions": questions}))
        (tmp_path / "v2_mscoco_val2014_annotations.json").write_text(json.dumps({"annotations": annotations}))
        return str(tmp_path)

    return write


def asked(id, image=42, text="What colour?"):
    return {"question_id": id, "image_id": image, "question": text}


def answered(id, image=42, answers=("red",) * 10):
    texts = [{"answer": text, "answer_confidence": "yes", "answer_id": index} for index, text in enumerate(answers)]
    return {"question_id": id, "image_id": image, "question_type": "what", "answer_type": "other", "answers": texts}


def test_it_is_registered():
    assert find("data", "questions") is Questions


def test_the_questions_of_an_image_stay_together_in_the_order_of_the_file(lines):
    root = lines(LINE, {"file_name": "b.jpg", "question": "How many?", "answer": "2"}, {**LINE, "question": "What?"})
    a, b = Questions(root).examples()
    assert (a.id, b.id) == ("a.jpg", "b.jpg")
    assert a.questions == (Question("What colour?", ("red", "Red")), Question("What?", ("red", "Red")))
    assert b.questions == (Question("How many?", ("2",)),)
    assert not a.problems and not b.problems


def test_spellings_of_one_path_are_one_image(lines):
    (one,) = Questions(lines(LINE, {**LINE, "image": "./a.jpg"})).examples()
    assert len(one.questions) == 2


def test_images_may_be_in_a_folder_below(lines, tmp_path):
    root = lines(LINE)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"")
    (one,) = Questions(root).examples()
    assert one.image == tmp_path / "images" / "a.jpg"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("{", "not JSON"),
        ("[1, 2]", "not of the form"),
        ({"question": "What?", "answers": ["a"]}, "it has no key for the image"),
        ({"image": "b.jpg", "file_name": "b.jpg", "question": "What?", "answers": ["a"]}, "may both be the image"),
        ({"image": 7, "question": "What?", "answers": ["a"]}, "its image is the number 7, not the name of an image"),
        ({"image": "b.jpg", "answers": ["a"]}, "its question is null, not a text"),
        ({"image": "b.jpg", "question": " ", "answers": ["a"]}, "its question is empty, not a text"),
        ({"image": "b.jpg", "question": "NaN", "answers": ["a"]}, "denotes a missing value"),
        ({"image": "b.jpg", "question": "What?"}, "it has no key for the answers: answers, answer"),
        ({"image": "b.jpg", "question": "What?", "answers": []}, "it has no answer"),
        ({"image": "b.jpg", "question": "What?", "answers": ["a", ""]}, "its answer is empty, not a text"),
        ({"image": "b.jpg", "question": "What?", "answer": 2}, "its answer is the number 2, not a text"),
        ({"image": "b.jpg", "question": "What?", "answer": "a", "answers": ["a"]}, "may both be the answers"),
        ('{"image": "b.jpg", "image": "c.jpg", "question": "What?", "answer": "a"}', "listed twice"),
        ('{"image": "b.jpg", "question": "\\ud800?", "answer": "a"}', "half a character"),
    ],
)
def test_a_bad_row_is_a_problem_with_its_line(lines, row, problem):
    good, bad = Questions(lines(LINE, row)).examples()
    assert not good.problems
    assert bad.problems[0].startswith("questions.jsonl, line 2: ")
    assert problem in bad.problems[0]


def test_a_bad_row_of_a_known_image_is_a_problem_of_this_image(lines):
    (one,) = Questions(lines(LINE, {**LINE, "answers": []})).examples()
    assert one.id == "a.jpg"
    assert one.problems == ("questions.jsonl, line 2: it has no answer",)


def test_a_name_that_leads_out_of_the_folder_is_a_problem(lines):
    _, bad = Questions(lines(LINE, {**LINE, "image": "../b.jpg"})).examples()
    assert "leads out of the data set's folder" in bad.problems[0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "it contains no question"),
        (["{"], "none of its 1 questions can be read"),
        (["[1]"], "a single list"),
    ],
)
def test_a_file_without_a_usable_row_is_refused(lines, rows, message):
    with pytest.raises(ConfigError, match=message):
        Questions(lines(*rows)).examples()


def test_a_missing_file_names_both_layouts(tmp_path):
    with pytest.raises(ConfigError, match=r"expected questions\.jsonl, or v2_OpenEnded_mscoco_val2014_questions\.json"):
        Questions(str(tmp_path)).examples()


def test_samples_is_a_number_of_images(lines):
    root = lines(LINE, LINE, {**LINE, "image": "b.jpg"})
    (one,) = Questions(root, samples=1).examples()
    assert len(one.questions) == 2
    with pytest.raises(ConfigError, match=r"data\.options\.samples=0"):
        Questions(root, samples=0)


def test_the_identity_has_a_digest_of_questions_and_answers(lines):
    first = Questions(lines(LINE)).identity()
    assert first["questions"] == "questions.jsonl"
    assert first["samples"] == "1"
    assert (
        Questions(lines({**LINE, "answers": ["blue"]})).identity()["annotations_sha256"] != first["annotations_sha256"]
    )


# ---------------------------------------------------------------------------------------------------------------- VQAv2
def test_questions_of_vqav2_are_joined_with_their_answers(vqa, tmp_path):
    root = vqa([asked(421), asked(422, text="How many?")], [answered(422, answers=["2"] * 10), answered(421)])
    (one,) = Questions(root).examples()
    assert one.image == tmp_path / "val2014" / "COCO_val2014_000000000042.jpg"
    assert one.questions == (Question("What colour?", ("red",) * 10), Question("How many?", ("2",) * 10))
    assert not one.problems
    identity = Questions(root).identity()
    assert (identity["annotations"], identity["split"]) == ("v2_mscoco_val2014_annotations.json", "val2014")


def test_images_of_coco_2017_have_names_without_the_split(vqa, tmp_path):
    root = vqa([asked(421)], [answered(421)], image="images/000000000042.jpg")
    (one,) = Questions(root).examples()
    assert one.image == tmp_path / "images" / "000000000042.jpg"


@pytest.mark.parametrize(
    ("question", "annotation", "problem"),
    [
        (asked(421), answered(999), "it has no answers in v2_mscoco_val2014_annotations.json"),
        (asked(421), answered(421, image=43), "its image_id is 42, but 43 in v2_mscoco"),
        (asked(421), {**answered(421), "answers": "red"}, 'its answers are "red" in v2_mscoco'),
        (asked(421, text=""), answered(421), "its question is empty, not a text"),
        (asked(421, image=None), answered(421), "its image_id is null"),
    ],
)
def test_a_bad_question_of_vqav2_is_named(vqa, question, annotation, problem):
    examples = Questions(vqa([asked(1), question], [answered(1), annotation])).examples()
    problems = [text for example in examples for text in example.problems]
    assert len(problems) == 1
    assert problems[0].startswith("v2_OpenEnded_mscoco_val2014_questions.json, question 421: ")
    assert problem in problems[0]


@pytest.mark.parametrize(
    ("questions", "annotations", "message"),
    [
        ([asked(1), asked(1)], [answered(1)], "a question_id is listed twice in 'questions'"),
        ([asked(1)], [answered(1), answered(1)], "a question_id is listed twice in 'annotations'"),
        ([asked(None)], [answered(1)], r"questions\[0\] has no question_id"),
        ([7], [answered(1)], "are no objects"),
        ([asked(1)], [answered(2)], "none of its 1 questions can be read"),
    ],
)
def test_a_fault_that_could_mix_up_answers_is_an_error_of_the_file(vqa, questions, annotations, message):
    with pytest.raises(ConfigError, match=message):
        Questions(vqa(questions, annotations)).examples()


def test_lines_of_json_have_answers_of_their_own(lines):
    with pytest.raises(ConfigError, match=r"questions\.jsonl contains its answers"):
        Questions(lines(LINE), questions="questions.jsonl", annotations="answers.json")
