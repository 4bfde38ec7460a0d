"""Which of a model's classes each class of a data set is: by name, by number, by what the config says, never by guess.

A name is compared without regard to case, to `_`, `-` and blanks, to Unicode's forms of one text and to leading zeros.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from visionbench.core import DataClass
from visionbench.registry import ConfigError

NUMBER = re.compile(r"n\d{8}(?!\d)")
"""A WordNet number at the beginning of a name."""
NUMBERED = re.compile(r" \((n\d{8})\)$")
"""The number that stands after a name which two classes share."""
IMAGENET_CLASSES = 1000
IMAGENET_SHA256 = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"
"""Of the numbers of ILSVRC2012's 1,000 classes, sorted, one a line: the order of the usual models' outputs."""
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
"""Some of their names at their usual places, by which a model shows that its classes are in that order."""
LANDMARKS_NEEDED = 6
NAMED = 5
"""So many classes are named in a message; the others are counted."""
QUOTES = str.maketrans("‘’ʼ`", "''''")
MAPPING = "data.options.classes"


@dataclass(frozen=True)
class Matching:
    """Where the data's classes are among the model's."""

    indices: Mapping[str, int]
    """By the name of a data class, the index of the model's class."""
    unknown: tuple[str, ...] = ()
    """Data classes that are none of the model's."""
    assumed: Mapping[str, str] = field(default_factory=dict)
    """Flags for what names and numbers do not prove."""


def key(name: str) -> str:
    """What two spellings of one name have in common."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).translate(QUOTES)
    kinds = [(character, unicodedata.category(character)) for character in text]
    apart = "".join(" " if kind in ("Pc", "Pd", "Zs", "Cc") else "" if kind == "Cf" else c for c, kind in kinds)
    return " ".join(word.lstrip("0") or "0" if word.isdigit() else word for word in apart.split())


def unique(own: Sequence[str]) -> list[str]:
    """The model's names, each class with one of its own: a name that several classes share has its index beside it."""
    times = Counter(own)
    return [name if times[name] == 1 else f"{name} ({at})" for at, name in enumerate(own)]


def check_distinct(names: Mapping[str, str]) -> None:
    """Raise ConfigError where the names of two data classes differ only in spelling."""
    known: dict[str, str] = {}
    for name, text in names.items():
        if (other := known.setdefault(key(text), name)) != name:
            raise ConfigError(
                f"the data's classes '{other}' and '{name}' are one class by their names; put their pictures together, "
                "or rename one"
            )


def match(own: Sequence[str], classes: Sequence[DataClass]) -> Matching:
    """Find each data class among the model's. Raises ConfigError where one may be several, or two are the same."""
    names = _Names.of(own)
    indices: dict[str, int] = {}
    assumed: dict[str, str] = {}
    left: list[DataClass] = []
    for one in classes:
        if one.target is not None:
            indices[one.name] = names.target(one)
        else:
            left.append(one)
    indices |= names.by_number(left, [one.number or _number(one.name) for one in classes], assumed)
    left = [one for one in left if one.name not in indices]
    places = {one.name: names.places(one.name) for one in left}
    indices |= _in_turn(left, places, own, assumed)
    for name, found in places.items():
        if name in indices:
            continue
        if len(found) > 1:
            several = " or ".join(f"{at} '{own[at]}'" for at in sorted(found)[:NAMED])
            raise ConfigError(
                f"the data's class '{name}' may be the model's class {several}; say which it is with "
                f"{MAPPING}={{{name}: {min(found)}}}"
            )
        if found:
            indices[name] = min(found)
    left = [one for one in left if one.name not in indices]
    if left and len(left) == len(classes) and (numbers := _indices(left, len(own))):
        indices |= numbers
        assumed["classes_by_index"] = (
            f"the data's classes 0 to {len(own) - 1} are taken as indices of the model's classes, since no name says "
            f"so; {MAPPING} would"
        )
        left = []
    _check_apart(indices, own)
    return Matching(indices, tuple(one.name for one in left), assumed)


def refusal(unknown: Sequence[str], classes: int, own: Sequence[str]) -> str:
    """Why the data do not fit the model: the classes that it does not know, and the nearest of its own."""
    first = unknown[0]
    near = nearest(first, own)
    meant = f"; did you mean '{near[0]}'?" if _alike(first, near[0]) else ";"
    return (
        f"the model does not know {len(unknown)} of the data's {classes} classes, such as '{first}'{meant} "
        f"unknown: {quoted(unknown)}; of the model's {len(own)} classes the nearest to '{first}': {quoted(near)}; "
        f"say which is which with {MAPPING}={{{first}: NAME_OR_INDEX}}"
    )


def nearest(wrong: str, known: Iterable[str], most: int = NAMED) -> list[str]:
    """The names most like a wrong one, the best first."""
    of_key = {key(name): name for name in reversed(list(dict.fromkeys(known)))}
    return [of_key[one] for one in difflib.get_close_matches(key(wrong), of_key, n=most, cutoff=0.0)]


def is_wordless(name: str) -> bool:
    """Whether a class is named by a number alone, so that a text cannot say what it shows."""
    return bool(re.fullmatch(r"(n\d{8}|label[ _-]?\d+|class[ _-]?\d+)", name, re.IGNORECASE))


def begins_with_number(name: str) -> bool:
    """Whether a number comes before the words, as in `001.Laysan_Albatross` and `n02085620-Chihuahua`."""
    return bool(re.match(r"(n\d{8}|\d+)[ ._-]+[^\W\d_]", name))


@dataclass(frozen=True)
class _Names:
    """A model's classes by each of their names."""

    own: Sequence[str]
    exact: Mapping[str, set[int]]
    full: Mapping[str, set[int]]
    synonyms: Mapping[str, set[int]]
    numbers: Mapping[str, set[int]]

    @classmethod
    def of(cls, own: Sequence[str]) -> _Names:
        """Names as they are, by their key, by the key of each synonym ("tench, Tinca tinca"), and by WordNet number."""
        tables: list[defaultdict[str, set[int]]] = [defaultdict(set) for _ in range(4)]
        for at, name in enumerate(own):
            number = _number(name)
            words = name.removeprefix(number).strip(" _-:,") if number else name
            tables[0][name].add(at)
            tables[1][key(name)].add(at)
            for synonym in (words, *words.split(",")):
                if key(synonym):
                    tables[2][key(synonym)].add(at)
            if number:
                tables[3][number].add(at)
        return cls(own, *tables)

    def places(self, name: str) -> set[int]:
        """The indices that a name may mean: of the narrowest reading that is known."""
        words = NUMBERED.sub("", name)
        if (number := _number(words)) and words != number:
            words = words.removeprefix(number).strip(" _-:,")
        for table, text in ((self.exact, words), (self.full, key(words)), (self.synonyms, key(words))):
            if found := table.get(text):
                return set(found)
        parts = [found for part in words.split(",") if (found := self.synonyms.get(key(part)))]
        common = set.intersection(*parts) if parts else set()
        return common or set().union(*parts)

    def target(self, one: DataClass) -> int:
        """The index that the config gives for a class. Raises ConfigError."""
        said = f"{MAPPING}: '{one.name}' is mapped to {one.target!r}"
        if isinstance(one.target, int):
            if not 0 <= one.target < len(self.own):
                raise ConfigError(f"{said}; the model's classes are numbered 0 to {len(self.own) - 1}")
            return one.target
        found = self.places(str(one.target)) | self.numbers.get(str(one.target), set())
        if not found:
            near = quoted(nearest(str(one.target), self.own))
            raise ConfigError(f"{said}, which is none of the model's {len(self.own)} classes; the nearest are {near}")
        if len(found) > 1:
            several = " or ".join(f"{at} '{self.own[at]}'" for at in sorted(found)[:NAMED])
            raise ConfigError(f"{said}, which may be the model's class {several}; give its index")
        return found.pop()

    def by_number(self, left: Sequence[DataClass], every: Sequence[str], assumed: dict[str, str]) -> dict[str, int]:
        """Indices by WordNet number: of the model's own numbers, or of ImageNet's usual order.

        `every` are the numbers of all data classes. The usual order is certain where these are ImageNet's 1,000 and the
        model's names stand at their usual places; where its names say nothing, it is assumed and flagged.
        """
        numbered = {one.name: one.number or _number(one.name) for one in left}
        if self.numbers:
            return {
                name: next(iter(found))
                for name, number in numbered.items()
                if len(found := self.numbers.get(number, set())) == 1
            }
        usual = self._usual_order()
        if len(self.own) != IMAGENET_CLASSES or usual is False or not _is_imagenet(every):
            return {}
        if usual is None:
            assumed["classes_by_order"] = (
                f"ImageNet's usual order of classes is assumed, since the model's names ('{self.own[0]}', …) do not "
                "show it"
            )
        order = {number: at for at, number in enumerate(sorted(every))}
        return {name: order[number] for name, number in numbered.items()}

    def _usual_order(self) -> bool | None:
        """Whether the names stand where ImageNet's usually do; None where none of the landmarks is among them."""
        known = {at: set().union(*(self.synonyms.get(word, ()) for word in words)) for at, words in LANDMARKS.items()}
        found = {at: places for at, places in known.items() if places}
        if not found:
            return None
        return sum(at in places for at, places in found.items()) >= LANDMARKS_NEEDED


def _number(name: str) -> str:
    found = NUMBER.match(name) or NUMBERED.search(name)
    return (found[1] if found.re is NUMBERED else found[0]) if found else ""


def _is_imagenet(numbers: Sequence[str]) -> bool:
    return hashlib.sha256("\n".join(sorted(numbers)).encode()).hexdigest() == IMAGENET_SHA256


def _in_turn(
    left: Sequence[DataClass], places: Mapping[str, set[int]], own: Sequence[str], assumed: dict[str, str]
) -> dict[str, int]:
    """Classes that share a name in the data and as often in the model, paired by rising number and index."""
    alike: defaultdict[frozenset[int], list[DataClass]] = defaultdict(list)
    for one in left:
        if len(places[one.name]) > 1:
            alike[frozenset(places[one.name])].append(one)
    found: dict[str, int] = {}
    for indices, sharing in alike.items():
        numbered = sorted(sharing, key=lambda one: one.number or _number(one.name))
        same = len({key(NUMBERED.sub("", one.name)) for one in sharing}) == 1
        if same and len(sharing) == len(indices) and all(one.number or _number(one.name) for one in sharing):
            found |= {one.name: at for one, at in zip(numbered, sorted(indices), strict=True)}
            assumed["shared_names"] = (
                f"{len(sharing)} classes are called '{own[min(indices)]}'; they are told apart by the order of their "
                "numbers"
            )
    return found


def _indices(classes: Sequence[DataClass], count: int) -> dict[str, int]:
    """Names as indices, where they are exactly 0 to `count` − 1; else nothing."""
    numbers = {one.name: int(one.name) for one in classes if re.fullmatch(r"\d{1,9}", one.name, re.ASCII)}
    exact = len(numbers) == len(classes) == count and set(numbers.values()) == set(range(count))
    return numbers if exact else {}


def _check_apart(indices: Mapping[str, int], own: Sequence[str]) -> None:
    first: dict[int, str] = {}
    for name, at in indices.items():
        if (other := first.setdefault(at, name)) != name:
            raise ConfigError(
                f"the data's classes '{other}' and '{name}' both are the model's class {at} '{own[at]}'; put their "
                f"pictures together, or correct {MAPPING}"
            )


def _alike(one: str, other: str) -> bool:
    return difflib.SequenceMatcher(None, key(one), key(other)).ratio() >= 0.6


def quoted(names: Sequence[str]) -> str:
    """The first few names in quotes, and how many there are in all."""
    more = f", … ({len(names)} in all)" if len(names) > NAMED else ""
    return ", ".join(f"'{name}'" for name in names[:NAMED]) + more
