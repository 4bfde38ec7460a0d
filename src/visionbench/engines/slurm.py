"""Execute jobs with SLURM, as an array of jobs that submitit submits. Needs `visionbench[slurm]`."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from visionbench.core import ConfigError, first_line
from visionbench.engines import End, Job
from visionbench.engines.processes import supervise

COMMON = ("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name")
"""The parameters of submitit that each of its executors has. The others have the prefix of the executor."""
SECONDS_BETWEEN_CHECKS = 2.0


@dataclass
class Slurm:
    """An engine that submits jobs to SLURM. `options` are the keys of `conf/hydra/launcher/submitit_slurm.yaml`."""

    outlives_command: ClassVar[bool] = True

    folder: str
    """The folder of submitit's files, with `%j` for the id of a job. All hosts must have it at the same path."""
    options: Mapping[str, Any]
    cluster: str = "slurm"
    max_num_timeout: int = 0

    def check(self, threads: Sequence[int | None]) -> None:
        """Raise ConfigError if submitit or the commands of SLURM are missing."""
        if find_spec("submitit") is None:
            raise ConfigError(
                "hydra/launcher=submitit_slurm: submitit is not installed", "pip install 'visionbench[slurm]'"
            )
        if self.cluster == "slurm" and shutil.which("sbatch") is None:
            raise ConfigError(
                "hydra/launcher=submitit_slurm: there is no command sbatch", "run it on a login node of a SLURM cluster"
            )
        if self.cluster == "slurm":
            answer = subprocess.run(["sinfo", "--noheader"], capture_output=True, text=True, check=False)
            if answer.returncode:
                lines = answer.stderr.strip().splitlines() or ["no reason given"]
                raise ConfigError(
                    f"hydra/launcher=submitit_slurm: SLURM does not answer ({lines[-1]})",
                    "try sinfo; SLURM_CONF is the path of slurm.conf if it is not in /etc/slurm",
                )

    def run(self, jobs: Sequence[Job], show: Callable[[str], None]) -> Iterator[tuple[Job, End]]:
        """Submit the jobs as one array and yield each job when it ends. After Ctrl-C, SLURM continues with the jobs."""
        import submitit

        executor = submitit.AutoExecutor(
            folder=self.folder, cluster=self.cluster, slurm_max_num_timeout=self.max_num_timeout
        )
        executor.update_parameters(**self._parameters())
        try:
            submitted = executor.map_array(partial(_call, several=len(jobs) > 1), [job.call for job in jobs])
        except (submitit.core.utils.FailedJobError, RuntimeError, ValueError) as error:
            shutil.rmtree(Path(self.folder).parent, ignore_errors=True)
            raise ConfigError(f"hydra/launcher=submitit_slurm: {_last_line(error)}", "no job was submitted") from error
        jobs_by_id = {job.job_id: jobs[index] for index, job in enumerate(submitted)}
        show(f"submitted {len(jobs)} jobs: {', '.join(jobs_by_id)}")
        try:
            for job in submitit.helpers.as_completed(submitted, poll_frequency=SECONDS_BETWEEN_CHECKS):
                yield jobs_by_id[job.job_id], _end(job)
        except KeyboardInterrupt:
            ids = " ".join(dict.fromkeys(job.job_id.partition("_")[0] for job in submitted))
            show(f"the jobs continue; end them with scancel {ids}")
            raise

    def _parameters(self) -> dict[str, Any]:
        """Return the options that are set, with the names of submitit's `AutoExecutor`."""
        given = {name: value for name, value in self.options.items() if value is not None}
        own = {name: value for name, value in given.items() if name in COMMON}
        prefixed = {f"slurm_{name}": value for name, value in given.items() if name not in COMMON}
        return {**own, **prefixed}


def _last_line(error: Exception) -> str:
    """Return the last line of an error of submitit, which is the message of sbatch."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def _call(call: Callable[[str], int], several: bool) -> End:
    """Measure a run in a new process, because SLURM may kill the process that uses the most memory."""
    try:
        return supervise(call, beside() if several else "")
    except Exception as error:  # submitit raises it if SLURM sends its signal before the time limit
        return End(1, f"SLURM announced the end of the job, by its time limit or preemption ({first_line(error)})")


def beside() -> str:
    """Return that other jobs may use this node at the same time, or an empty text if the job has all its cores."""
    cores = os.environ.get("SLURM_CPUS_ON_NODE", "")
    total = os.cpu_count() or 1
    if cores.isdigit() and int(cores) >= total and len(os.sched_getaffinity(0)) >= total:
        return ""
    return (
        f"other jobs on this node at the same time: SLURM gave this job {cores or 'an unknown number'} of {total} cores"
    )


def _end(job: Any) -> End:
    """Return the end of a job of submitit."""
    error = job.exception()
    if error is None:
        end: End = job.result()
        return end
    log = Path(job.paths.stderr)
    log = log if log.exists() else Path(job.paths.stdout)
    if type(error).__name__ == "FailedJobError":
        trace = str(error).split("-" * 22)[1:2]
        lines = trace[0].strip().splitlines() if trace else []
        return End(1, f"the job {job.job_id} raised {lines[-1] if lines else 'an error'}; its log is {log}")
    return End(1, f"the job {job.job_id} ended without a result (state {job.state}); its log is {log}")
