"""The declaration of a metric: its unit, its meaning, its direction, and how it is shown and gathered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

QUALITY, SPEED, MEMORY = "quality", "speed", "memory"
"""The kinds of metrics. Quality is compared image by image if both sides measured the same images; speed is slower or
faster, and memory is more or less."""
HIGHER, LOWER = "higher", "lower"
"""The better values of a metric."""
LOAD = "load"
"""The kind of case, and the axis of a metric, of the loads of a run."""
GEOMETRIC_MEAN, LARGEST, SMALLEST = "geometric mean", "largest", "smallest"
"""The functions that gather the values of several processes."""
OVER_PICTURES, WITHIN_PROCESS, ACROSS_PROCESSES = "over_pictures", "within_process", "across_processes"
"""The sources of variation that an interval of a metric covers."""
OVER_QUERIES, BETWEEN_LOADS = "over_queries", "between_loads"
"""The intervals of a share of queries, and of the largest load within a bound."""
INTERVALS = (OVER_PICTURES, WITHIN_PROCESS, ACROSS_PROCESSES, OVER_QUERIES, BETWEEN_LOADS)


@dataclass(frozen=True)
class MetricDeclaration:
    """The meaning of a metric or of a family of metrics, and how it is shown, compared and gathered.

    Raises ValueError if a field has a value that is not allowed.
    """

    name: str
    """The metric's name. In a family, `{a,b}` means each alternative, `<k>` a number, `<part>` a word."""
    unit: str
    """The unit as readers see it, such as `ms` or `fraction`."""
    meaning: str = ""
    """One phrase for the documentation."""
    better: str = ""
    """`higher` or `lower`; empty if neither is better."""
    kind: str = ""
    """`quality`, `speed`, `memory`, or empty for another kind."""
    title: str = ""
    """A short heading. `{0}` is the first variable part of a family's name, `{1}` the second."""
    translations: Mapping[str, str] = field(default_factory=dict, hash=False)
    """The title in other languages, by language code."""
    table: bool = False
    """Whether the tables of the terminal and of the report have a column for it."""
    compared: bool = False
    """Whether `visionbench compare` compares it without `--metric`."""
    headline: int = 0
    """1 for the main metric, by which models of a task are compared; 2 for others that charts show; 0 otherwise."""
    axis: str = ""
    """`load` if each load of a run has a value, see `core.Case.load`; empty if each batch size or the run has one."""
    order: int = 100
    """Position in tables and charts, lowest first. Below 50, every run of a sweep has the column."""
    unless: tuple[str, ...] = ()
    """Metrics that replace it in tables and comparisons if one of them has a value."""
    compared_unless: tuple[str, ...] = ()
    """Metrics that replace it in comparisons only, not in tables, if one of them has a value."""
    gather: str = GEOMETRIC_MEAN
    """The function that gathers the values of several processes: `geometric mean`, `largest` or `smallest`."""
    intervals: tuple[str, ...] = ()
    """The intervals that are reported with it: `over_pictures`, `within_process`, `across_processes`, `over_queries`
    or `between_loads`."""
    options: tuple[str, ...] = ()
    """Options of the metric group. Values are compared only if these options are equal on both sides."""
    group: str = ""
    """The metric group, such as `latency`; filled in when the declarations of a run are collected."""
    part_of: str = ""
    """The metric of the interval, if this is the end or the width of an interval."""

    def heading(self, language: str = "en") -> str:
        """Return the title in a language if it has one, else the English title, else the name."""
        return self.translations.get(language) or self.title or self.name

    def __post_init__(self) -> None:
        for key, value, allowed in (
            ("better", (self.better,), ("", HIGHER, LOWER)),
            ("axis", (self.axis,), ("", LOAD)),
            ("kind", (self.kind,), ("", QUALITY, SPEED, MEMORY)),
            ("gather", (self.gather,), (GEOMETRIC_MEAN, LARGEST, SMALLEST)),
            ("intervals", self.intervals, INTERVALS),
        ):
            if wrong := [entry for entry in value if entry not in allowed]:
                listed = ", ".join(filter(None, allowed))
                raise ValueError(f"declaration of {self.name}: {key} is '{wrong[0]}'; use one of: {listed}")


def interval_ends(metric: str, infix: str = "") -> tuple[str, str]:
    """Return the names of the lower and upper end of a metric's interval.

    They are `…_low_fraction` and `…_high_fraction` for `…_fraction`; the infix, if any, comes before `low` and `high`.
    """
    stem, unit = split_unit(metric)
    stem = "_".join(filter(None, [stem, infix]))
    return f"{stem}_low_{unit}", f"{stem}_high_{unit}"


def interval_half_width(metric: str) -> str:
    """Return the name of the half width of a metric's interval across processes, relative to its centre."""
    return f"{split_unit(metric)[0]}_{ACROSS_PROCESSES}_half_width_fraction"


def split_unit(metric: str) -> tuple[str, str]:
    """Split a metric's name into its stem and its unit: `throughput_images` and `per_s`."""
    stem, _, unit = metric.rpartition("_per_s") if metric.endswith("_per_s") else metric.rpartition("_")
    return stem, unit or "per_s"
