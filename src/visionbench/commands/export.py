"""`visionbench export`: write runs as one table in CSV, JSON or Parquet, with a row for each case."""

from __future__ import annotations

import sys
from pathlib import Path

from visionbench import __version__
from visionbench.core import ConfigError
from visionbench.results import archive, dataframe

PARQUET = "parquet"
TEXTS = {"csv": dataframe.csv, "json": dataframe.json_text}


def write(sweep: str | None, output_dir: Path, where: str, kind: str, output: Path | None) -> int:
    """Write the cases of the chosen runs to a file, or as the only output to standard output."""
    if kind == PARQUET and output is None:
        raise ConfigError("--format parquet: it cannot be printed", "give a file with --output FILE")
    facts = archive.parse_filter(where, "--where")
    runs = archive.of_sweep(output_dir, sweep) if sweep else archive.of_folder(output_dir)
    runs = archive.select(runs, facts, f"--where {where}")
    table = dataframe.cases(runs)
    if output is None:
        sys.stdout.write(TEXTS[kind](table))
        return 0
    content = dataframe.parquet(table, __version__) if kind == PARQUET else TEXTS[kind](table).encode()
    try:
        output.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"--output {output}: {error.strerror}") from error
    print(f"{len(table)} cases of {len(runs)} run{'s' * (len(runs) > 1)} in {output}")
    return 0
