"""The use of Hydra: the arguments of the command line, the search path, composing, the launcher, and errors.

Hydra composes configurations. This package converts each into a `ComposedRun`, and passes it to an `Application`. It
uses only documented interfaces of Hydra: `hydra.main`, plugins, `ConfigStore`, `HydraConfig` and `run_job`.
"""

from visionbench.composition.application import Application, Collector, JobFailed, JobPlan, main, shows_information
from visionbench.composition.arguments import Arguments, parse
from visionbench.composition.composing import compose_runs
from visionbench.composition.overrides import check as check_overrides
from visionbench.composition.schema import register_schema

__all__ = [
    "Application",
    "Arguments",
    "Collector",
    "JobFailed",
    "JobPlan",
    "check_overrides",
    "compose_runs",
    "main",
    "parse",
    "register_schema",
    "shows_information",
]
