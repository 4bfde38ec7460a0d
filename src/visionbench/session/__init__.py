"""The sequence of a sweep: prepare all runs, measure each run, and finish with the table, the tracker and the report.

    prepared = prepare(runs, resolver)            refuse, fetch, resolve, plan, check the data; start servers
    measure(prepared, index, folder, sweep, …)    one run in a fresh process; the previous run is sent at its start
    measure_repeats(prepared, …)                  with measure.repeats: the runs that were deferred, in turns
    finish(prepared, outcome)                     print the results, send them, and write the report

Only `Outcome` and the tracker's queue change after `prepare`, so an interrupted sweep still shows its finished runs.
"""

from visionbench.session.completion import finish, finish_job, publish
from visionbench.session.continuation import assign, describe_assignments, folder_of, is_complete
from visionbench.session.measurement import add_result, add_write_error, measure, measure_repeats
from visionbench.session.preparation import plan_request, prepare, resolve, start_fork_server
from visionbench.session.sweep_file import expect_jobs_after_command, remove_sweep_record
from visionbench.session.values import GATHERS, Outcome, PreparedRun, PreparedSweep, Resumption, Role

__all__ = [
    "GATHERS",
    "Outcome",
    "PreparedRun",
    "PreparedSweep",
    "Resumption",
    "Role",
    "add_result",
    "add_write_error",
    "assign",
    "describe_assignments",
    "expect_jobs_after_command",
    "finish",
    "finish_job",
    "folder_of",
    "is_complete",
    "measure",
    "measure_repeats",
    "plan_request",
    "prepare",
    "publish",
    "remove_sweep_record",
    "resolve",
    "start_fork_server",
]
