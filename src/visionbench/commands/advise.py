"""`visionbench advise`: recommend a model, a precision and a batch size from results."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from visionbench.report import advice as words
from visionbench.report.translations import check, gap
from visionbench.results import archive, missing
from visionbench.results.advice import choice, encoding
from visionbench.results.advice.candidates import Bounds
from visionbench.terminal import advice_view
from visionbench.terminal.console import screen

LEGEND = "? questionable"
NO_RECOMMENDATION = 3
"""The exit code if no case of any task can be recommended."""


def show(sweeps: Sequence[str], output_dir: Path, where: str, bounds: Bounds, language: str, as_json: bool) -> int:
    """Print the advice for each task. Return 3 if no case of any task can be recommended, and 1 if a folder is damaged.

    Raises ConfigError if there is no run, or no run with the facts of `where`.
    """
    check(language, "--language")
    facts = archive.parse_filter(where, "--where")
    damages = archive.Damages()
    read = archive.of_sweeps(output_dir, sweeps, damages)
    distinct = list({run.record.uid: run for run in read}.values())
    runs = archive.select(distinct, facts, f"--where {where}")
    advised = list(choice.advise(runs, bounds))
    method = words.method(advised, bounds, language)
    if as_json:
        content = encoding.content(advised, method)
        sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    else:
        notes = (
            [LEGEND, method]
            if any(any(case.questionable for case in advice.cases.candidates) for advice in advised)
            else [method]
        )
        notes += [gap(one, language) for one in missing.gaps(runs)]
        shown = advice_view.render(words.parts(advised, language), words.steps(advised, language), notes)
        screen(highlight=False).print(shown)
    return damages.exit_code(0 if any(advice.chosen for advice in advised) else NO_RECOMMENDATION, runs)
