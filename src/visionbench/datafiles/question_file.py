"""Read questions about images with their answers: lines of JSON, or the two files of VQAv2.

A row with another form is kept with its problem and its place in the file. It is never dropped or corrected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionbench.core import ConfigError, Question
from visionbench.datafiles.caption_file import IMAGE_KEYS
from visionbench.datafiles.captions import MISSING_VALUES, has_surrogate
from visionbench.datafiles.coco_files import read_lists
from visionbench.datafiles.coco_schema import check_objects
from visionbench.datafiles.json_file import parse_id, show
from visionbench.datafiles.json_lines import describe_value, read_json_lines
from visionbench.datafiles.messages import list_first
from visionbench.datafiles.text_file import read_text, split_lines

ANSWER_KEYS = ("answers", "answer")
FORM = 'not of the form {"image": …, "question": …, "answers": […]}'
Id = int | str


@dataclass(frozen=True)
class QuestionRow:
    """One row: its place, such as `line 3`, its image, and its question or its problem.

    The image is a file name (lines of JSON) or an id (VQAv2), or None if it is unknown.
    """

    place: str
    image: Id | None
    question: Question | None = None
    problem: str | None = None


def read_lines(path: Path) -> tuple[QuestionRow, ...]:
    """Return the rows of a file of lines of JSON. Raises ConfigError if no row can be read."""
    rows = tuple(
        QuestionRow(f"line {line.number}", None, problem=line.problem)
        if line.problem is not None
        else _parse_line(f"line {line.number}", line.value)
        for line in read_json_lines(path, split_lines(read_text(path)))
    )
    return _check_any(path, rows)


def read_vqa(questions: Path, annotations: Path) -> tuple[QuestionRow, ...]:
    """Return the questions of VQAv2's first file with the answers of its second file, in the order of the first.

    Answers to other questions are not used. Raises ConfigError if the ids of a file are missing or not unique, or if no
    row can be read.
    """
    questions_by_id = _by_question_id(questions, "questions")
    answers_by_id = _by_question_id(annotations, "annotations")
    rows = tuple(_join(id, row, answers_by_id.get(id), annotations.name) for id, row in questions_by_id.items())
    return _check_any(questions, rows)


def _check_any(path: Path, rows: tuple[QuestionRow, ...]) -> tuple[QuestionRow, ...]:
    if not rows:
        raise ConfigError(f"{path}: it contains no question", "give another file")
    if all(row.problem is not None for row in rows):
        raise ConfigError(
            f"{path}, {rows[0].place}: {rows[0].problem}", f"none of its {len(rows)} questions can be read"
        )
    return rows


def _parse_line(place: str, row: Any) -> QuestionRow:
    if not isinstance(row, dict):
        return QuestionRow(place, None, problem=FORM)
    image_key, problem = _choose_key(row, IMAGE_KEYS, "the image")
    if image_key is None:
        return QuestionRow(place, None, problem=problem)
    image = row[image_key]
    if not isinstance(image, str) or not image.strip():
        return QuestionRow(place, None, problem=f"its {image_key} is {describe_value(image)}, not the name of an image")
    if has_surrogate(image):
        return QuestionRow(place, None, problem="half of a character (a lone surrogate, \\ud800 to \\udfff)")
    answer_key, problem = _choose_key(row, ANSWER_KEYS, "the answers")
    if answer_key is None:
        return QuestionRow(place, image.strip(), problem=problem)
    answers = row[answer_key] if isinstance(row[answer_key], list) else [row[answer_key]]
    return _make_row(place, image.strip(), row.get("question"), answers)


def _choose_key(row: Mapping[str, Any], known: Sequence[str], role: str) -> tuple[str | None, str | None]:
    """Return the key of a row that has a role, or None with the problem."""
    present = [key for key in known if key in row]
    if len(present) == 1:
        return present[0], None
    if present:
        return None, f"{' and '.join(present)} may both be {role}; keep one of them"
    return None, f"it has no key for {role}: {', '.join(known)}"


def _make_row(place: str, image: Id, text: Any, answers: Sequence[Any]) -> QuestionRow:
    """Return the row of an image, with the problem of its question or of an answer if there is one.

    An answer is a text, or an object with the key `answer`, as in VQAv2.
    """
    texts = [answer.get("answer") if isinstance(answer, Mapping) else answer for answer in answers]
    if not texts:
        return QuestionRow(place, image, problem="it has no answer")
    for role, value in (("question", text), *(("answer", one) for one in texts)):
        if not isinstance(value, str) or not value.strip():
            return QuestionRow(place, image, problem=f"its {role} is {describe_value(value)}, not a text")
        if has_surrogate(value):
            return QuestionRow(place, image, problem=f"its {role} has half a character (a lone surrogate)")
    if text.strip().lower() in MISSING_VALUES:
        return QuestionRow(place, image, problem=f"its question is only '{text}', which denotes a missing value")
    return QuestionRow(place, image, Question(text.strip(), tuple(str(one).strip() for one in texts)))


def _by_question_id(path: Path, key: str) -> Mapping[Id, Mapping[str, Any]]:
    """Return the entries of a list of VQAv2 by their question id. Raises ConfigError."""
    rows = read_lists(path, (key,))[key]
    check_objects(path, key, rows)
    by_id: dict[Id, Mapping[str, Any]] = {}
    repeated: list[str] = []
    for index, row in enumerate(rows):
        id = parse_id(row.get("question_id"))
        if id is None:
            raise ConfigError(f"{path}: {key}[{index}] has no question_id that is a number or text", "correct it")
        if id in by_id:
            repeated.append(show(id))
        by_id[id] = row
    if repeated:
        raise ConfigError(
            f"{path}: a question_id is listed twice in '{key}', so that answers cannot be matched: "
            f"{list_first(repeated)}",
            "give each question a unique id",
        )
    return by_id


def _join(id: Id, row: Mapping[str, Any], annotation: Mapping[str, Any] | None, name: str) -> QuestionRow:
    """Return the row of a question of VQAv2. `name` is the name of the file of answers."""
    place, image = f"question {id}", parse_id(row.get("image_id"))
    if image is None:
        return QuestionRow(place, None, problem=f"its image_id is {show(row.get('image_id'))}")
    if annotation is None:
        return QuestionRow(place, image, problem=f"it has no answers in {name}")
    other = parse_id(annotation.get("image_id", image))
    if other != image:
        return QuestionRow(place, image, problem=f"its image_id is {show(image)}, but {show(other)} in {name}")
    answers = annotation.get("answers")
    if not isinstance(answers, list):
        return QuestionRow(place, image, problem=f"its answers are {show(answers)} in {name}, not a list")
    return _make_row(place, image, row.get("question"), answers)


def list_image_names(id: Id, folder: str) -> Iterator[str]:
    """Yield the names that COCO gives to the image with this id in a folder such as `val2014`."""
    if isinstance(id, int):
        yield f"COCO_{folder}_{id:012d}.jpg"
        yield f"{id:012d}.jpg"
    yield f"{id}.jpg"
