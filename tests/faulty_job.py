"""A model family that ends its measuring process, or the process of its job, on purpose."""

import multiprocessing
import os
import signal
import threading
from dataclasses import dataclass

import own_parts
import psutil

from visionbench.registry import register


@register("models", "faulty_job")
@dataclass
class FaultyFamily(own_parts.OwnFamily):
    """Options: `fault` is none, raise, kill, exit, hang, kill_job, stop_job, or kill_worker:
    the process of SLURM or Ray that started the job."""

    def load(self, model, device, dtype):
        loaded = super().load(model, device, dtype)
        return FaultyModel(loaded.module, dtype, self.fault, self.at_batch)


@dataclass
class FaultyModel(own_parts.OwnModel):
    def call(self, inputs):
        job = multiprocessing.parent_process()
        if self.fault == "exit":
            os._exit(3)
        if self.fault == "kill_worker" and job is not None:
            psutil.Process(job.pid).parent().kill()
        if self.fault in ("kill_worker", "hang"):
            threading.Event().wait()
        if self.fault in ("kill_job", "stop_job") and job is not None:
            os.kill(job.pid, signal.SIGKILL if self.fault == "kill_job" else signal.SIGTERM)
            threading.Event().wait()
        return super().call(inputs)


YAML = "name: faulty\nfamily: faulty_job\nweights: random\noptions: {fault: none}\n"


def write_config(folder):
    """Write the option `model=faulty` into a folder for `--config-dir`, and return the folder."""
    (folder / "conf" / "model").mkdir(parents=True)
    (folder / "conf" / "model" / "faulty.yaml").write_text(YAML)
    return str(folder / "conf")
