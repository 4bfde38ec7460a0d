"""What differs between the configurations of several runs, and the names of runs that show it.

differences(configs)      the keys that differ, with the value of each run as text
labels(keys)              a short label for each key: `device.threads` is `threads`
named(plans, configs)     the plans of a sweep with names such as `clip_tiny · cpu · fp32 · threads 5`
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from visionbench.core import RunPlan

EXPERIMENT = "experiment"
"""The key of the chosen experiment, which sets other keys. The other sections hold the values that it sets."""
NAMED = ("model.name", "device.name", "device.index", "precision.name")
"""Keys that the first three parts of a run's name show."""
WITHOUT_EFFECT = (
    *("output_dir", "tracking", "report", "check", "hydra", "data.prepare", "data.fallback"),
    *("resume", "retry", "on_change"),
)
"""Keys and sections that do not change what is measured."""
RUNTIME = "runtime.name"
DECODER = "data.decoder"
PREPROCESS = "data.preprocess"
SELECTORS = {
    "model": "model.name",
    "device": "device.name",
    "precision": "precision.name",
    "runtime": "runtime.name",
    "batch": "batch.sizes",
    "data": "data.name",
    "measure": "measure.name",
    "metrics": "metrics",
}
"""The key that selects the values of a section. Values that differ only because another was selected are not named."""
SEPARATOR = " · "
EAGER = "eager"
"""The runtime that a name does not show, unless the runs of a sweep differ in it."""
PILLOW = "pillow"
"""The decoder that a name does not show, unless the runs of a sweep differ in it."""
TRANSFORMERS = "transformers"
"""The same for the library that resizes and normalises images."""
MOST_CHARACTERS = 24
"""The longest value in a name. A longer value is shortened in the middle."""
ABSENT = "–"
"""The text of a value in a run whose configuration does not have the key."""


def differences(configs: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return for each configuration the keys in dotted form that differ between them, with their values as text.

    Model, device and precision are left out. A key of a section with a name, such as that of a model, is listed only
    if it differs between configurations with the same name and the same experiment. A configuration without the key
    has the value `–`. The experiment is left out unless all configurations have one, because earlier versions did not
    store it. The order of the keys is that of the first configuration.
    """
    known = all(EXPERIMENT in config for config in configs)
    flat = [flatten(config if known else _without(config, EXPERIMENT)) for config in configs]
    keys = [key for key in dict.fromkeys(key for values in flat for key in values) if _differs(key, flat)]
    return [{key: values.get(key, ABSENT) for key in keys} for values in flat]


def labels(keys: Iterable[str]) -> dict[str, str]:
    """Return a label for each dotted key: its last part in words, with as many parts before it as make it unique.

    `data.name` is `data` and `batch.sizes` is `batch`, because the section alone is clear.
    """
    parts = {key: _significant_parts(key) for key in keys}
    counts = dict.fromkeys(parts, 1)
    while clashes := _equal({key: parts[key][-counts[key] :] for key in parts}):
        growing = [key for key in clashes if counts[key] < len(parts[key])]
        if not growing:
            break
        counts |= {key: counts[key] + 1 for key in growing}
    return {key: " ".join(part.replace("_", " ") for part in parts[key][-counts[key] :]) for key in parts}


def joined(parts: Iterable[str]) -> str:
    """Return the parts of a name with separators. A part that a run does not have is left out."""
    return SEPARATOR.join(part for part in parts if part != ABSENT)


def named(plans: Sequence[RunPlan], configs: Sequence[Mapping[str, Any]]) -> list[RunPlan]:
    """Return the plans of a sweep with what differs between them in `varied` and in their names."""
    return [naming.apply(plan) for naming, plan in zip(namings(plans, configs), plans, strict=True)]


@dataclass(frozen=True)
class Naming:
    """What differs between the runs of a sweep, for the name of one of them."""

    values: Mapping[str, str]
    """The keys that differ, with the values of this run."""
    parts: tuple[str, ...]
    """Those of `model`, `device` and `precision` that differ."""

    def apply(self, plan: RunPlan) -> RunPlan:
        """Return the plan with its name and with what differs."""
        known = labels(self.values)
        differing = differing_parts({known[key]: value for key, value in self.values.items()})
        base = base_parts(plan)
        for key, part in {RUNTIME: "runtime", DECODER: "decoder", PREPROCESS: "preprocess"}.items():
            if key in self.values:
                base.pop(part, None)
        varied = {part: base[part] for part in self.parts} | dict(self.values)
        return replace(plan, name=joined([*base.values(), *differing]), varied=varied)


def namings(plans: Sequence[RunPlan], configs: Sequence[Mapping[str, Any]]) -> list[Naming]:
    """Return for each run of a sweep what differs between the runs."""
    values = differences([with_experiment(config, plan) for config, plan in zip(configs, plans, strict=True)])
    return [Naming(varied, varying_parts(plans)) for varied in values]


def with_experiment(config: Mapping[str, Any], plan: RunPlan) -> Mapping[str, Any]:
    """Return the configuration of a run with its experiment, if it is known, for `differences`."""
    return {EXPERIMENT: plan.experiment, **config} if plan.experiment else config


def base_parts(plan: RunPlan) -> dict[str, str]:
    """Return the parts that the name of a run has: model, device, precision, and a runtime, a decoder or a library for
    preprocessing other than the usual one.

    If the runs of a sweep differ in one of the latter, it is among what differs.
    """
    further = {
        "runtime": (RUNTIME, plan.runtime, EAGER, plan.runtime),
        "decoder": (DECODER, plan.decoder, PILLOW, f"decoder {plan.decoder}"),
        "preprocess": (PREPROCESS, plan.preprocess, TRANSFORMERS, f"preprocess {plan.preprocess}"),
    }
    shown = {
        part: words for part, (key, value, usual, words) in further.items() if value != usual and key not in plan.varied
    }
    return {"model": plan.model, "device": plan.device, "precision": plan.precision, **shown}


def varying_parts(plans: Sequence[RunPlan]) -> tuple[str, ...]:
    """Return those of `model`, `device` and `precision` that differ between the plans."""
    bases = [{"model": plan.model, "device": plan.device, "precision": plan.precision} for plan in plans]
    return tuple(part for part in (bases[0] if bases else ()) if len({base[part] for base in bases}) > 1)


def differing_parts(values: Mapping[str, str]) -> list[str]:
    """Return a text such as `threads 5` for each value by its label. Values that a run does not have are left out."""
    return [f"{label} {shortened(value)}" for label, value in values.items() if value != ABSENT]


def shortened(text: str, width: int = MOST_CHARACTERS) -> str:
    """Return a text of at most `width` characters. A longer text loses its middle, because both ends matter."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def text(value: Any) -> str:
    """Return a value of a configuration as text: `1,2,4` for a list, `null` for None, `true` for True."""
    if type(value) is str:
        return value
    if isinstance(value, list | tuple):
        return ",".join(map(text, value))
    if isinstance(value, Mapping):
        return ",".join(f"{key}={text(item)}" for key, item in value.items())
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return short if not isinstance(value, float) or float(short) == value else str(value)


def _without(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != key}


def flatten(config: Mapping[str, Any]) -> dict[str, str]:
    """Return every key in dotted form that can change a measurement, with its value as text."""
    return dict(_leaves(config))


def matching_keys(name: str, keys: Iterable[str]) -> list[str]:
    """Return the keys that a name means: a complete key, or the shortest keys that end in it, as in `image_size`.

    Spaces and underscores are equal, so that a label from a table is a name, too.
    """
    keys = list(keys)
    if name in keys:
        return [name]
    end = name.replace(" ", "_").split(".")
    matches = {key: len(_significant_parts(key)) for key in keys if _significant_parts(key)[-len(end) :] == end}
    return [key for key, length in matches.items() if length == min(matches.values())]


def _leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each key that can change a measurement, and its value as text. The chosen metrics are one value."""
    for part, value in config.items():
        key = f"{prefix}{part}"
        if key in WITHOUT_EFFECT:
            continue
        if key == "batch" and isinstance(value, Mapping):
            value = _of_batch(value)
        is_section = type(value) is dict or isinstance(value, Mapping)  # a check of the type alone is faster
        if is_section and key == "metrics":
            yield key, ",".join(map(str, value))
        if is_section:
            yield from _leaves(value, f"{key}.")
        else:
            yield key, text(value)


def _of_batch(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section of the batch with `auto` as its sizes, or without the keys of the search."""
    if section.get("auto"):
        return {"sizes": "auto", **{key: value for key, value in section.items() if key not in ("sizes", "auto")}}
    return {key: value for key, value in section.items() if key == "sizes"}


def _differs(key: str, configs: Sequence[Mapping[str, str]]) -> bool:
    """Return whether a key differs between configurations in which the same values were selected."""
    if key in NAMED:
        return False
    selectors = {SELECTORS.get(key.partition(".")[0]), EXPERIMENT} - {key}
    names = sorted(filter(None, selectors))
    first: dict[tuple[str | None, ...], str | None] = {}
    for config in configs:
        value = config.get(key)
        if first.setdefault(tuple(map(config.get, names)), value) != value:
            return True
    return False


def _significant_parts(key: str) -> list[str]:
    parts = [part for part in key.split(".") if part != "options"]
    return parts[:-1] if len(parts) > 1 and parts[-1] in ("name", "sizes") else parts


def _equal(names: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the keys whose name another key has, too."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for key, parts in names.items():
        groups.setdefault(tuple(parts), []).append(key)
    return [key for group in groups.values() if len(group) > 1 for key in group]
