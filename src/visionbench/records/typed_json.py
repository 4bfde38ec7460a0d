"""Convert frozen dataclasses from JSON and to JSON, and check every type. An error names the key.

A dataclass may have a field for the complete object (`ALL_KEYS`) or for the keys that no field names (`OTHER_KEYS`),
so that keys of a newer version or of a user's part are not lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache, partial
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from visionbench.core import ConfigError

T = TypeVar("T")

KEY = "key"
"""The entry of a field's metadata that holds its key in JSON, if that differs from the field's name."""
ALL_KEYS, OTHER_KEYS = {KEY: "*"}, {KEY: "**"}
"""The metadata of a field that holds the complete object, or the keys that no other field holds."""
LARGEST_INTEGER = 2**63
LARGEST = 2.0**62
"""The fast reader does not read numbers of this size, infinity and NaN."""
NAMES = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}


def read(kind: type[T], value: Any, place: str) -> T:
    """Convert a value of JSON to this kind: a dataclass, a scalar, a tuple or a mapping of these.

    `place` is the origin of the value, such as "outputs/a: run.json.plan". Raises ConfigError that names the place of
    the first value that is missing or has a wrong type.
    """
    result: T
    try:
        result = _fast_reader(cast(Any, kind))(value)
    except _UnexpectedTypeError:
        result = _read(kind, value, place)
    return result


def write(value: Any, place: str) -> Any:
    """Convert a value to the types of JSON. Raises ConfigError that names the place of a value of another type."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {_key(name, place): write(entry, f"{place}.{name}") for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [write(entry, f"{place}[{index}]") for index, entry in enumerate(value)]
    if is_dataclass(value):
        if hasattr(type(value), "parse"):
            return str(value)
        return write(_mapping(value), place)
    raise ConfigError(
        f"{place}: {value!r} has the type {type(value).__name__}, which JSON does not have",
        "use a string, a number, true, false, null, a list or a mapping",
    )


class _UnexpectedTypeError(Exception):
    """A value that the fast reader does not convert. `_read` then converts it, or raises an error with its place."""


@cache
def _fast_reader(kind: Any) -> Callable[[Any], Any]:
    """Return a function that converts usual values as `_read` does, without their places."""
    if kind is Any:
        return lambda value: value
    if kind in NAMES:
        return partial(_fast_scalar, kind)
    origin, arguments = _parts(kind)
    if origin is UnionType:
        inner = _fast_reader(arguments[0])
        return lambda value: None if value is None else inner(value)
    if origin is Mapping:
        return partial(_fast_mapping, _fast_reader(arguments[1]))
    if origin is tuple:
        return partial(_fast_tuple, _fast_reader(arguments[0]))
    if is_dataclass(kind):
        return partial(_fast_dataclass, kind, _fast_fields(kind))
    return partial(_fast_scalar, kind)


def _fast_fields(kind: Any) -> list[tuple[Field[Any], str, Callable[[Any], Any]]]:
    return [(field, _name(field), _fast_reader(hint)) for field, hint in _fields(kind)]


def _fast_scalar(kind: Any, value: Any) -> Any:
    if kind is float and type(value) is int:
        value = float(value) if -LARGEST < value < LARGEST else None
    if type(value) is not kind or (kind in (int, float) and not -LARGEST < value < LARGEST):
        raise _UnexpectedTypeError
    return value


def _fast_mapping(reader: Callable[[Any], Any], value: Any) -> Any:
    if type(value) is not dict:
        raise _UnexpectedTypeError
    return {name: reader(entry) for name, entry in value.items()}


def _fast_tuple(reader: Callable[[Any], Any], value: Any) -> Any:
    if type(value) is not list:
        raise _UnexpectedTypeError
    return tuple(map(reader, value))


def _fast_dataclass(kind: Any, readers: Sequence[tuple[Field[Any], str, Callable[[Any], Any]]], value: Any) -> Any:
    if type(value) is not dict:
        if type(value) is str and hasattr(kind, "parse"):
            return kind.parse(value)
        raise _UnexpectedTypeError
    arguments = {}
    for field, key, reader in readers:
        if field.metadata == ALL_KEYS:
            arguments[field.name] = value
        elif field.metadata == OTHER_KEYS:
            arguments[field.name] = {name: entry for name, entry in value.items() if name not in _keys(kind)}
        elif key in value:
            arguments[field.name] = reader(value[key])
        elif field.default is MISSING and field.default_factory is MISSING:
            raise _UnexpectedTypeError
    return kind(**arguments)


def _read(kind: Any, value: Any, place: str) -> Any:
    if type(value) in (int, float) and kind in (int, float):
        _check_range(value, place)
    if kind is Any or (kind in NAMES and isinstance(value, kind) and (kind is bool or not isinstance(value, bool))):
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    origin, arguments = _parts(kind)
    if origin is UnionType:
        return None if value is None else _read(arguments[0], value, place)
    if origin is Mapping:
        return {name: _read(arguments[1], entry, f"{place}.{name}") for name, entry in _object(value, place).items()}
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{place} is not a list")
        return tuple(_read(arguments[0], entry, f"{place}[{index}]") for index, entry in enumerate(value))
    if is_dataclass(kind):
        if isinstance(value, str) and hasattr(kind, "parse"):
            return kind.parse(value)
        return _dataclass(kind, _object(value, place), place)
    raise ConfigError(f"{place} is not {NAMES.get(kind, 'of the expected type')}")


def _check_range(value: float, place: str) -> None:
    """Raise ConfigError for a number that is not finite, or that 64 bits cannot hold."""
    if isinstance(value, int) and abs(value) >= LARGEST_INTEGER:
        raise ConfigError(f"{place} is too large")
    if not math.isfinite(value):
        raise ConfigError(f"{place} is not a finite number")


def _dataclass(kind: Any, value: Mapping[str, Any], place: str) -> Any:
    arguments = {}
    for field, hint in _fields(kind):
        key = _name(field)
        if field.metadata == ALL_KEYS:
            arguments[field.name] = value
        elif field.metadata == OTHER_KEYS:
            arguments[field.name] = {name: entry for name, entry in value.items() if name not in _keys(kind)}
        elif key in value:
            arguments[field.name] = _read(hint, value[key], f"{place}.{key}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError(f"{place}.{key} is missing")
    return kind(**arguments)


def _mapping(value: Any) -> Mapping[str, Any]:
    """Return the keys of a dataclass in JSON and their values."""
    written: dict[str, Any] = {}
    for field in fields(value):
        entry = getattr(value, field.name)
        if field.metadata == ALL_KEYS:
            return dict(entry)
        written |= entry if field.metadata == OTHER_KEYS else {_name(field): entry}
    return written


def _object(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{place} is not an object")
    return value


def _key(name: Any, place: str) -> str:
    if not isinstance(name, str):
        raise ConfigError(f"{place}: the key {name!r} is not a string", "use strings as keys")
    return name


def _name(field: Field[Any]) -> str:
    return str(field.metadata.get(KEY, field.name))


@cache
def _fields(kind: Any) -> tuple[tuple[Field[Any], Any], ...]:
    hints = get_type_hints(kind)
    return tuple((field, hints[field.name]) for field in fields(kind) if field.init)


@cache
def _keys(kind: Any) -> frozenset[str]:
    return frozenset(_name(field) for field, _ in _fields(kind))


@cache
def _parts(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the origin of a generic type and its arguments. The arguments of a union exclude `None`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return UnionType, tuple(argument for argument in arguments if argument is not NoneType)
    return origin, arguments
