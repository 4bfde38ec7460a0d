"""The conditions, warnings and remarks below a table, each printed once for all runs that have it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from visionbench.core import EVALUATION_STEPS, OK, CaseResult
from visionbench.records.record import DataSettings, RunRecord
from visionbench.results import doubts
from visionbench.results.archive import Run
from visionbench.results.summary import host_names, launch_bound, price_and_endpoint, remarks


def details(runs: Sequence[Run], name: Callable[[Run], str], verbose: bool) -> Iterator[str]:
    """Yield all lines of these runs. A line that several runs have is printed once, after their names.

    Without `verbose`, the windows that were measured again are only counted.
    """
    yield from _grouped([(*_machine(run), *_shared(run), *_of_run(run, name(run), verbose)) for run in runs])
    yield from _hosts(runs)
    if not verbose:
        yield from _retries(runs)


def overview(runs: Sequence[Run]) -> Iterator[str]:
    """Yield the lines of a sweep without the details of single runs: counts of events, and equal conditions."""
    yield _machines(runs)
    yield from _grouped([(*_shared(run), *_data(run)) for run in runs])
    bound = [run for run in runs if launch_bound(run.results)]
    if bound:
        yield f"the host limits the device in {len(bound)} of {len(runs)} runs (launch-bound)"
    yield from _hosts(runs)
    yield from _retries(runs)
    yield from _sessions(runs)


def _hosts(runs: Sequence[Run]) -> Iterator[str]:
    """Yield that several machines measured these runs, if so."""
    if len(names := host_names([run.record for run in runs])) > 1:
        listed = ", ".join(names)
        yield f"measured on {len(names)} hosts ({listed}): a difference between hosts may be that of the machines"


def _sessions(runs: Sequence[Run]) -> Iterator[str]:
    """Yield a line about the runs whose cases were measured by several sessions, because they were resumed."""
    if resumed := [run for run in runs if run.record.sessions]:
        what = "the run was" if len(runs) == 1 else f"{len(resumed)} of {len(runs)} runs were"
        yield f"{what} resumed: a later process measured a part of the cases, under the same conditions"


def _retries(runs: Sequence[Run]) -> Iterator[str]:
    if count := doubts.retries([row for run in runs for row in run.results]):
        yield f"{count} invalid window{'s were' if count > 1 else ' was'} measured again"


def _grouped(lines_of_runs: Sequence[Sequence[tuple[str, str]]]) -> Iterator[str]:
    about: dict[str, dict[str, None]] = {}
    for lines in lines_of_runs:
        for subject, line in lines:
            about.setdefault(line, {})[subject] = None
    for line, subjects in about.items():
        yield ": ".join(filter(None, [", ".join(filter(None, subjects)), line]))


def _machine(run: Run) -> Iterator[tuple[str, str]]:
    yield "", _machines([run])


def _machines(runs: Sequence[Run]) -> str:
    """Return the devices, the numbers of threads and the versions of these runs."""
    devices = dict.fromkeys(run.record.device.device_name or run.record.plan.device for run in runs)
    threads = sorted({run.record.device.threads for run in runs if run.record.device.threads is not None})
    local = [run for run in runs if not run.record.plan.is_remote]
    versions = [
        f"{name} {_listed(version for run in local if (version := run.record.host.version(name)))}"
        for name in (("torch", "transformers") if local else ())
    ]
    counts = [f"{_listed(map(str, threads))} thread{'' if threads == [1] else 's'}"] if threads else []
    return f"on {', '.join([_listed(devices), *counts, *versions])}"


def _listed(values: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(values)) or "of an unknown version"


def _shared(run: Run) -> Iterator[tuple[str, str]]:
    """Yield the conditions that several runs may share, each with its model or an empty text."""
    record, plan = run.record, run.record.plan
    if repeats := record.repeats:
        yield (
            "",
            f"{repeats.measured} fresh processes, order seed {repeats.order_seed}: geometric means; "
            "±: half the 95 % interval of p50 across processes",
        )
    yield from ((plan.model, line) for line in price_and_endpoint(record, run.results))
    if (protocol := plan.protocol) != "standard":
        yield "", f"measure={protocol}: not the standard protocol; use measure=standard for decisions"
    if record.settings.model.weights == "random":
        yield plan.model, "random weights; speed and memory are those of the real model, quality is refused"
    else:
        yield from ((plan.model, f"no {name}, because {reason}") for name, reason in plan.refused.items())
    yield from (("", warning) for warning in plan.warnings)
    if any(row.metrics.values.get("memory_peak_allocated_mib") is not None for row in run.results):
        yield "", "peak MiB: peak allocated on the device"
    elif any(row.metrics.values.get("memory_process_peak_mib") is not None for row in run.results):
        yield "", "peak MiB: peak resident set of the process, libraries included"


def _of_run(run: Run, name: str, verbose: bool) -> Iterator[tuple[str, str]]:
    """Yield the remarks on one run, each with the run's name."""
    record = run.record
    if bound := launch_bound(run.results):
        yield name, bound
    yield from ((name, remark) for remark in remarks(run.results, with_retries=verbose))
    if (row := run.quality) and row.status == OK:
        yield name, _coverage(row, record.settings.data)
    elif record.left_out:
        yield "", _left_out(record)


def _data(run: Run) -> Iterator[tuple[str, str]]:
    """Yield the number of images that the quality of a run is over."""
    record = run.record
    if (row := run.quality) and row.status == OK:
        yield "", _images(row, record.settings.data)
    elif record.left_out:
        yield "", _left_out(record)


def _left_out(record: RunRecord) -> str:
    return f"{len(record.left_out or {})} images of {record.settings.data.name} left out, see run.json"


def _images(row: CaseResult, data: DataSettings) -> str:
    return f"quality over {_image_count(row.metrics.values, data.options)} of {data.name}"


def _coverage(row: CaseResult, data: DataSettings) -> str:
    """Return the number of images of the quality case, its speed from file to output, and the share of each step."""
    values = row.metrics.values
    text = _images(row, data)
    shares = {step: values.get(f"evaluation_{step}_share_fraction") for step in EVALUATION_STEPS}
    if speed := values.get("evaluation_images_per_s"):
        steps = ", ".join(f"{step} {share:.0%}" for step, share in shares.items() if share is not None)
        text += f", {speed:.4g} img/s from file to output ({steps})"
    return text


def _image_count(values: Mapping[str, float | None], options: Mapping[str, Any]) -> str:
    """Return the number of images, such as `a sample of 24 of 120 images`, as far as it is known."""
    used = values.get("pictures_used_count") or values.get("evaluation_images_count")
    total = values.get("pictures_found_count")
    if not used:
        return "all images"
    if not total or used >= total:
        return f"{used:.0f} images"
    sample = "a sample of " if options.get("samples") is not None else ""
    return f"{sample}{used:.0f} of {total:.0f} images"
