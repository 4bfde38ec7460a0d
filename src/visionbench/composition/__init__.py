"""Everything that uses Hydra: the command line's arguments, the search path, composing, the launcher, errors.

Hydra composes; this room turns each composed configuration into a `ComposedRun` and passes it to an `Application`.
Only documented interfaces of Hydra are used: `hydra.main`, plugins, `ConfigStore`, `HydraConfig` and `run_job`.
"""

from visionbench.composition.application import Application, ComposedRun, JobFailed, main
from visionbench.composition.arguments import Arguments, parse
from visionbench.composition.schema import register_schema

__all__ = ["Application", "Arguments", "ComposedRun", "JobFailed", "main", "parse", "register_schema"]
