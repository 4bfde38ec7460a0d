"""Questions about images with their answers: lines of JSON, or the files of VQAv2 beside COCO's images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from visionbench.core import ConfigError, Example, Question
from visionbench.datafiles.data_folder import (
    check_counts,
    digest_files,
    find_file,
    find_folder,
    locate_image,
    spell_name,
)
from visionbench.datafiles.messages import escape_unprintable
from visionbench.datafiles.question_file import QuestionRow, list_image_names, read_lines, read_vqa
from visionbench.registry import register

LINES = "questions.jsonl"
FOLDERS = ("", "images")
"""Folders below the root that may contain the images of lines of JSON."""
VQA_QUESTIONS = "v2_OpenEnded_mscoco_{split}_questions.json"
VQA_ANNOTATIONS = "v2_mscoco_{split}_annotations.json"
"""The names of the files of VQAv2."""


@register("data", "questions")
@dataclass(frozen=True)
class Questions:
    """Options: the file `questions`, by default `questions.jsonl`, else VQAv2's file of the `split`; the file
    `annotations` with the answers of VQAv2; and `samples`, the number of images.

    A line of JSON has an image, a question, and an answer or a list of answers. Files of VQAv2 may also be in
    `annotations/` and `questions/`. Its images are in a folder with the name of the split.
    """

    root: str
    questions: str | None = None
    annotations: str | None = None
    split: str = "val2014"
    samples: int | None = None

    provides: ClassVar[frozenset[str]] = frozenset({"questions"})

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        check_counts(samples=self.samples)
        if self.annotations and self.questions and not self.questions.endswith(".json"):
            raise ConfigError(
                f"data.options.annotations={self.annotations}: {self.questions} contains its answers", "remove it"
            )

    def examples(self) -> Sequence[Example]:
        """Return the images in the order in which the file first names them, each with its questions.

        The problem of a row is a problem of its image, or of an example with the name of the row.
        """
        rows = read_vqa(*self._files) if self._is_vqa else read_lines(self._files[0])
        name = self._files[0].name
        questions: dict[str, list[Question]] = {}
        problems: dict[str, list[str]] = {}
        paths: dict[str, Path] = {}
        located: dict[int | str, tuple[str, Path, tuple[str, ...]]] = {}
        for row in rows:
            id = f"{name}, {row.place}"
            if row.image is not None:
                if row.image not in located:
                    located[row.image] = self._locate(row)
                    problems.setdefault(located[row.image][0], []).extend(located[row.image][2])
                id, paths[located[row.image][0]], _ = located[row.image]
            questions.setdefault(id, []).extend([row.question] if row.question else [])
            if row.problem is not None:
                problems.setdefault(id, []).append(f"{name}, {row.place}: {row.problem}")
        examples = [
            Example(id, paths.get(id, self._root), questions=tuple(texts), problems=tuple(problems.get(id, ())))
            for id, texts in questions.items()
        ]
        return examples[: self.samples]

    def classes(self) -> Sequence[str]:
        """Return an empty tuple: the data set has no labels."""
        return ()

    def identity(self) -> Mapping[str, str]:
        """Return folder, files, number of images and a digest of the questions and answers."""
        return {
            "name": "questions",
            "root": str(self._root.resolve()),
            "questions": self._files[0].name,
            **({"annotations": self._files[1].name, "split": self.split} if self._is_vqa else {}),
            "samples": str(len(self.examples())),
            "annotations_sha256": digest_files(self._files),
        }

    @property
    def _root(self) -> Path:
        return find_folder(self.root, "questions")

    @property
    def _is_vqa(self) -> bool:
        return self._files[0].suffix == ".json"

    @property
    def _files(self) -> tuple[Path, ...]:
        """The file of lines of JSON, or the two files of VQAv2."""
        vqa = VQA_QUESTIONS.format(split=self.split)
        names = [self.questions] if self.questions else [LINES, vqa]
        questions = find_file(self._root, list(_places(names)), f"{LINES}, or {vqa} of VQAv2")
        if questions.suffix != ".json":
            return (questions,)
        answers = VQA_ANNOTATIONS.format(split=self.split)
        names = [self.annotations] if self.annotations else [answers]
        return questions, find_file(self._root, list(_places(names)), f"{answers} beside {questions.name}")

    def _locate(self, row: QuestionRow) -> tuple[str, Path, tuple[str, ...]]:
        """Return the id of the image of a row, its path, and the problems of its name."""
        root, image = self._root, row.image
        assert image is not None
        names = [str(image)] if not self._is_vqa else list(list_image_names(image, self.split))
        folders = (self.split, f"images/{self.split}", "images", "") if self._is_vqa else FOLDERS
        places = [root / folder / spelling for name in names for spelling in spell_name(name) for folder in folders]
        path, problems = locate_image(names[0], places, root)
        id = escape_unprintable(names[0]) if problems else os.path.relpath(path, root)
        return id, path, problems


def _places(names: Sequence[str]) -> Iterator[str]:
    """Yield the places below the root in which users keep these files."""
    for name in names:
        yield name
        if not os.path.isabs(name):
            yield f"annotations/{name}"
            yield f"questions/{name}"
