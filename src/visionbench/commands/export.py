"""`visionbench export`: write runs as one table in CSV, JSON or Parquet, with a row for each case."""

from __future__ import annotations

import sys
from pathlib import Path

from visionbench import __version__
from visionbench.core import ConfigError, visible
from visionbench.records import atomic
from visionbench.results import archive, dataframe

PARQUET = "parquet"
TEXTS = {"csv": dataframe.csv, "json": dataframe.json_text}


def write(sweep: str | None, output_dir: Path, where: str, output_format: str, output: Path | None) -> int:
    """Write the cases of the chosen runs to a file or to standard output, which then receives no other text.

    Return 1 if a folder is damaged.
    """
    if output_format == PARQUET and output is None:
        raise ConfigError("--format parquet: it cannot be printed", "give a file with --output FILE")
    facts = archive.parse_filter(where, "--where")
    damages = archive.Damages()
    runs = (
        archive.of_sweep(output_dir, sweep, report=damages) if sweep else archive.of_folder(output_dir, report=damages)
    )
    runs = archive.select(runs, facts, f"--where {where}")
    table = dataframe.cases(runs)
    if output is None:
        text = TEXTS[output_format](table)
        sys.stdout.write(visible(text) if sys.stdout.isatty() else text)
        return damages.exit_code(0, runs)
    as_parquet = output_format == PARQUET
    content = dataframe.parquet(table, __version__) if as_parquet else TEXTS[output_format](table).encode()
    try:
        atomic.write(output, content)
    except OSError as error:
        raise ConfigError(f"--output {output}: {error.strerror}") from error
    print(f"{len(table)} cases of {len(runs)} run{'s' * (len(runs) > 1)} in {output}")
    return damages.exit_code(0, runs)
