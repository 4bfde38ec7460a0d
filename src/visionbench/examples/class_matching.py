"""Find the model's class for each class of a data set: by the config, by name or by WordNet number."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from visionbench.core import ConfigError, DataClass
from visionbench.examples.class_names import (
    MAPPING,
    NAMES_SHOWN,
    NUMBER_AT_END,
    are_similar,
    find_nearest,
    find_number,
    normalize,
    quote,
    remove_number,
)

IMAGENET_CLASSES = 1000
IMAGENET_SHA256 = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"
"""SHA-256 of the WordNet numbers of ILSVRC2012's 1,000 classes, sorted, one per line: the usual order of outputs."""
LANDMARKS: Mapping[int, tuple[str, ...]] = {
    0: ("tench",),
    1: ("goldfish",),
    9: ("ostrich",),
    99: ("goose",),
    207: ("golden retriever",),
    388: ("giant panda",),
    504: ("coffee mug",),
    817: ("sports car", "sport car"),
    999: ("toilet tissue", "toilet paper"),
}
"""Names at some indices of ImageNet's usual order. A model that has them there has its classes in that order."""
LANDMARKS_NEEDED = 6


SYNONYMS: Mapping[str, str] = {
    "airplane": "aeroplane",
    "couch": "sofa",
    "dining table": "diningtable",
    "motorcycle": "motorbike",
    "potted plant": "pottedplant",
    "tv": "tvmonitor",
}
"""COCO's names of categories to those of Pascal VOC, which some detectors use for the categories of COCO."""


@dataclass(frozen=True)
class ClassMatches:
    """The model's classes for the classes of a data set."""

    indices: Mapping[str, int]
    """Name of a data class to the index of the model's class."""
    unknown: tuple[str, ...] = ()
    """Data classes that the model does not have."""
    assumed: Mapping[str, str] = field(default_factory=dict)
    """Flags for matches that names and numbers do not prove."""


def match_classes(model_names: Sequence[str], classes: Sequence[DataClass]) -> ClassMatches:
    """Match each data class to a class of the model. Raises ConfigError if a match is ambiguous or two are the same."""
    lookup = _ModelClasses.of(model_names)
    assumed: dict[str, str] = {}
    indices = {
        data_class.name: lookup.find_target(data_class) for data_class in classes if data_class.target is not None
    }
    unmatched = [data_class for data_class in classes if data_class.target is None]
    indices |= lookup.match_numbers(unmatched, [_number_of(data_class) for data_class in classes], assumed)
    unmatched = [data_class for data_class in unmatched if data_class.name not in indices]
    candidates = {data_class.name: lookup.find_by_name(data_class.name) for data_class in unmatched}
    indices |= _match_shared_names(unmatched, candidates, model_names, assumed)
    for name, matches in candidates.items():
        if name in indices:
            continue
        if len(matches) > 1:
            raise ConfigError(
                f"the data's class '{name}' may be the model's class {_list_classes(matches, model_names)}",
                f"choose one with {MAPPING}={{{name}: {min(matches)}}}",
            )
        if matches:
            indices[name] = min(matches)
    unmatched = [data_class for data_class in unmatched if data_class.name not in indices]
    if unmatched and len(unmatched) == len(classes) and (numbers := _read_indices(unmatched, len(model_names))):
        indices |= numbers
        assumed["classes_by_index"] = (
            f"the data's classes 0 to {len(model_names) - 1} are taken as indices of the model's classes, because no "
            f"name confirms it; {MAPPING} would confirm it"
        )
        unmatched = []
    _check_distinct_indices(indices, model_names)
    return ClassMatches(indices, tuple(data_class.name for data_class in unmatched), assumed)


def use_synonyms(model_names: Sequence[str], classes: Sequence[DataClass]) -> list[DataClass]:
    """Return the classes. If the model only has the other name of a class in `SYNONYMS`, this name is its target."""
    known = {normalize(name) for name in model_names}
    pairs = {**SYNONYMS, **{other: name for name, other in SYNONYMS.items()}}
    renamed = []
    for one in classes:
        other = pairs.get(normalize(one.name))
        use = one.target is None and other in known and normalize(one.name) not in known
        renamed.append(replace(one, target=other) if use else one)
    return renamed


def describe_unknown(unknown: Sequence[str], classes: int, model_names: Sequence[str]) -> str:
    """Return the message for data classes that the model does not have, with the model's nearest names."""
    first = unknown[0]
    nearest = find_nearest(first, model_names)
    suggestion = f"; did you mean '{nearest[0]}'?" if are_similar(first, nearest[0]) else ";"
    return (
        f"the model does not have {len(unknown)} of the data's {classes} classes, such as '{first}'{suggestion} "
        f"unknown: {quote(unknown)}; of the model's {len(model_names)} classes the nearest to '{first}': "
        f"{quote(nearest)}; map the classes with {MAPPING}={{{first}: NAME_OR_INDEX}}"
    )


@dataclass(frozen=True)
class _ModelClasses:
    """A model's classes, by each of their names."""

    names: Sequence[str]
    exact: Mapping[str, set[int]]
    normalized: Mapping[str, set[int]]
    synonyms: Mapping[str, set[int]]
    numbers: Mapping[str, set[int]]

    @classmethod
    def of(cls, names: Sequence[str]) -> _ModelClasses:
        """Index the names by exact name, normalized name, synonym ("tench, Tinca tinca") and WordNet number."""
        exact, normalized, synonyms, numbers = (defaultdict[str, set[int]](set) for _ in range(4))
        for index, name in enumerate(names):
            words = remove_number(name) if find_number(name) else name
            exact[name].add(index)
            normalized[normalize(name)].add(index)
            for synonym in (words, *words.split(",")):
                if normalize(synonym):
                    synonyms[normalize(synonym)].add(index)
            if number := find_number(name):
                numbers[number].add(index)
        return cls(names, exact, normalized, synonyms, numbers)

    def find_by_name(self, name: str) -> set[int]:
        """Return the indices that a name may mean, by the strictest comparison that has a match."""
        words = NUMBER_AT_END.sub("", name)
        words = remove_number(words) or words
        spelling = normalize(words)
        for table, text in ((self.exact, words), (self.normalized, spelling), (self.synonyms, spelling)):
            if matches := table.get(text):
                return set(matches)
        parts = [matches for part in words.split(",") if (matches := self.synonyms.get(normalize(part)))]
        common = set.intersection(*parts) if parts else set()
        return common or set().union(*parts)

    def find_target(self, data_class: DataClass) -> int:
        """Return the index that the config gives for a class. Raises ConfigError."""
        start = f"{MAPPING}: '{data_class.name}' is mapped to {data_class.target!r}"
        if isinstance(data_class.target, int):
            if not 0 <= data_class.target < len(self.names):
                raise ConfigError(f"{start}", f"the model's classes are numbered 0 to {len(self.names) - 1}")
            return data_class.target
        matches = self.find_by_name(str(data_class.target)) | self.numbers.get(str(data_class.target), set())
        if not matches:
            nearest = quote(find_nearest(str(data_class.target), self.names))
            raise ConfigError(
                f"{start}, which is none of the model's {len(self.names)} classes", f"the nearest are {nearest}"
            )
        if len(matches) > 1:
            listed = _list_classes(matches, self.names)
            raise ConfigError(f"{start}, which may be the model's class {listed}", "give its index")
        return matches.pop()

    def match_numbers(
        self, classes: Sequence[DataClass], numbers: Sequence[str], assumed: dict[str, str]
    ) -> dict[str, int]:
        """Match classes by WordNet number: with the model's own numbers, or with ImageNet's usual order.

        `numbers` are those of all data classes. The usual order is certain if these are ImageNet's 1,000 and the
        model's names confirm it; it is assumed, with a flag, if the model has none of the names that could confirm it.
        """
        by_name = {data_class.name: _number_of(data_class) for data_class in classes}
        if self.numbers:
            matches = {name: self.numbers.get(number, set()) for name, number in by_name.items()}
            return {name: min(indices) for name, indices in matches.items() if len(indices) == 1}
        confirmed = self._has_usual_order()
        if len(self.names) != IMAGENET_CLASSES or confirmed is False or not _is_imagenet(numbers):
            return {}
        if confirmed is None:
            assumed["classes_by_order"] = (
                f"ImageNet's usual order of classes is assumed, because the model's names ('{self.names[0]}', …) do "
                "not confirm it"
            )
        order = {number: index for index, number in enumerate(sorted(numbers))}
        return {name: order[number] for name, number in by_name.items()}

    def _has_usual_order(self) -> bool | None:
        """Return whether the names are in ImageNet's usual order, or None if the model has none of the landmarks."""
        by_index = {
            index: set().union(*(self.synonyms.get(word, ()) for word in words)) for index, words in LANDMARKS.items()
        }
        known = {index: matches for index, matches in by_index.items() if matches}
        if not known:
            return None
        return sum(index in matches for index, matches in known.items()) >= LANDMARKS_NEEDED


def _number_of(data_class: DataClass) -> str:
    return data_class.number or find_number(data_class.name)


def _list_classes(indices: set[int], names: Sequence[str]) -> str:
    return " or ".join(f"{index} '{names[index]}'" for index in sorted(indices)[:NAMES_SHOWN])


def _is_imagenet(numbers: Sequence[str]) -> bool:
    return hashlib.sha256("\n".join(sorted(numbers)).encode()).hexdigest() == IMAGENET_SHA256


def _match_shared_names(
    classes: Sequence[DataClass],
    candidates: Mapping[str, set[int]],
    model_names: Sequence[str],
    assumed: dict[str, str],
) -> dict[str, int]:
    """Pair classes that share a name in the data and equally often in the model, by rising number and index."""
    groups: defaultdict[frozenset[int], list[DataClass]] = defaultdict(list)
    for data_class in classes:
        if len(candidates[data_class.name]) > 1:
            groups[frozenset(candidates[data_class.name])].append(data_class)
    matches: dict[str, int] = {}
    for indices, sharing in groups.items():
        same_name = len({normalize(NUMBER_AT_END.sub("", data_class.name)) for data_class in sharing}) == 1
        if same_name and len(sharing) == len(indices) and all(map(_number_of, sharing)):
            pairs = zip(sorted(sharing, key=_number_of), sorted(indices), strict=True)
            matches |= {data_class.name: index for data_class, index in pairs}
            assumed["shared_names"] = (
                f"{len(sharing)} classes are called '{model_names[min(indices)]}'; they are distinguished by the order "
                "of their numbers"
            )
    return matches


def _read_indices(classes: Sequence[DataClass], count: int) -> dict[str, int]:
    """Return the names as indices if they are exactly 0 to `count` − 1, else an empty dictionary."""
    numbers = {
        data_class.name: int(data_class.name)
        for data_class in classes
        if re.fullmatch(r"\d{1,9}", data_class.name, re.ASCII)
    }
    exact = len(numbers) == len(classes) == count and set(numbers.values()) == set(range(count))
    return numbers if exact else {}


def _check_distinct_indices(indices: Mapping[str, int], model_names: Sequence[str]) -> None:
    names: dict[int, str] = {}
    for name, index in indices.items():
        if (other := names.setdefault(index, name)) != name:
            raise ConfigError(
                f"the data's classes '{other}' and '{name}' both are the model's class {index} '{model_names[index]}'",
                f"merge their folders, or correct {MAPPING}",
            )
