"""The tiers of tests.

A quick test starts no process (except the one that counts GPUs), loads no model, does not use MLflow, and takes a few
seconds at most. All other tests carry the mark `slow`: they are listed in SLOW, or they carry the mark `gpu` or
`browser`. `guard` fails a quick test that starts a process, loads a model or uses MLflow, so SLOW cannot become
incomplete unnoticed.
"""

from __future__ import annotations

import multiprocessing.process
import multiprocessing.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from pathlib import Path
from sqlite3 import dbapi2
from typing import Any

import numpy.testing  # noqa: F401 (numpy 2.1 starts lscpu when this is imported)
import pytest
import torch

from visionbench.devices.cuda import COUNT_GPUS

TESTS = Path(__file__).parent
ALWAYS_SLOW = ("gpu", "browser")
SLOW = {
    "serving/test_generator.py": "starts processes",
    "test_serving_runs.py": "measures loads",
    "data/test_annotation_mutations.py": "tries many annotation files",
    "data/test_folder_mutations.py": "tries many folders",
    "data/test_imagenet_mutations.py": "tries many lists",
    "data/test_shapes.py::test_another_process_with_another_hash_seed_gives_the_same_bytes": "starts processes",
    "data/test_shapes.py::test_many_processes_at_once_are_safe": "starts processes",
    "data/test_shapes.py::test_the_files_of_two_splits_share_no_composition": "draws many images",
    "data/test_table_mutations.py": "tries many tables",
    "devices/test_cpu.py": "starts a process",
    "remote/test_client.py": "the openai client starts a process, which names the platform",
    "test_remote_runs.py": "runs the command",
    "test_model_inspection.py": "builds models",
    "test_archive_runs.py": "runs the commands",
    "test_channels_last.py": "builds models",
    "test_efficientnet_lite.py": "builds models",
    "weights/test_open_clip.py": "loads checkpoints",
    "test_batch_search.py::test_the_row_has_the_largest_size_that_did_not_fail_and_the_sizes_that_were_tried": "starts "
    "processes",
    "test_batch_search.py::test_a_limit_that_not_even_one_image_fits_is_a_failed_case": "starts processes",
    "test_batch_search.py::test_an_error_that_is_not_about_memory_ends_the_search": "starts processes",
    "test_batch_search.py::test_a_second_run_of_the_same_configuration_measures_the_same_size": "starts processes",
    "test_batch_search.py::test_a_search_without_a_size_is_repeated_by_a_later_session": "starts processes",
    "test_batch_search.py::test_clip_tiny_gets_the_largest_size_below_a_memory_limit_and_resume_keeps_it": "starts "
    "processes",
    "test_batch_search.py::test_all_processes_of_a_run_measure_the_same_size": "starts processes",
    "test_deadline.py::test_a_process_ends_with_its_exit_code_and_its_output_although_a_call_was_left_behind": "starts "
    "a process",
    "devices/test_cuda.py::test_without_nvml_the_cuda_driver_is_queried": "starts a process",
    "devices/test_cuda.py::test_without_a_driver_the_message_of_nvml_is_the_reason": "starts a process",
    "metrics/test_recall.py::test_the_tile_size_does_not_change_ranks_and_ties": "tries many sizes",
    "models/test_checkpoints.py": "loads checkpoints",
    "models/test_detectors.py": "builds models",
    "models/test_families.py": "builds every family",
    "models/test_generic.py": "builds models",
    "test_model_counts.py": "builds models",
    "models/test_depth_estimator.py": "builds models",
    "models/test_vision_language.py": "builds models",
    "models/test_semantic_segmenter.py": "builds models",
    "results/test_archive.py::test_a_run_of_a_killed_process_is_lost_also_while_it_is_a_zombie": ("starts a process"),
    "results/test_comparison.py::test_identical_processes_rarely_look_different": "simulates many comparisons",
    "results/test_comparison.py::test_more_processes_detect_a_change_that_five_do_not": "simulates many comparisons",
    "results/test_comparison.py::test_noisy_processes_need_a_larger_effect_for_a_verdict": "simulates comparisons",
    "results/test_comparison.py::test_a_change_of_ten_percent_is_detected_if_processes_agree": "simulates comparisons",
    "results/test_comparison.py::test_a_change_of_ten_percent_is_rarely_the_same": "simulates many comparisons",
    "terminal/test_progress.py::test_every_stage_has_an_expected_time": "builds a model",
    "records/test_damage.py": "runs every reader on many damaged folders",
    "records/test_old_folders.py::test_sync_sends_every_run": "uses MLflow",
    "records/test_old_folders.py::test_the_report_has_every_run": "draws many figures",
    "report/test_report.py": "draws many figures",
    "report/test_sweep_figures.py": "draws many figures",
    "report/test_page.py": "draws many figures",
    "test_architecture.py::test_composing_and_planning_a_run_loads_neither_torch_nor_mlflow": "starts a process",
    "test_clip_tiny.py": "loads the bundled model",
    "commands/test_commands.py": "runs the commands",
    "commands/test_interrupts.py": "runs the command",
    "commands/test_options.py": "runs the commands",
    **dict.fromkeys(
        (
            "commands/test_tune.py::test_bad_input_exits_with_2_in_one_line_and_leaves_no_folder",
            "commands/test_tune.py::test_a_missing_optuna_is_one_line_with_the_command",
            "commands/test_tune.py::test_precisions_and_runtimes_are_those_of_the_groups",
            "commands/test_tune.py::test_a_search_ends_with_a_best_configuration_that_its_file_reproduces",
            "commands/test_tune.py::test_other_commands_read_the_runs_of_a_search",
            "commands/test_tune.py::test_a_model_of_the_user_is_reproduced_without_its_folder_of_options",
            "commands/test_tune.py::test_the_same_command_continues_an_interrupted_search",
        ),
        "runs the command",
    ),
    "commands/test_models.py": "counts the parameters of all models",
    "commands/test_compare.py::test_a_git_revision_selects_its_runs": "starts a process",
    "commands/test_compare.py::test_a_revision_outside_a_repository_is_refused": "starts a process",
    "commands/test_compare.py::test_an_mlflow_query_selects_its_runs": "uses MLflow",
    "commands/test_compare.py::test_bad_input_exits_with_two_in_one_line": "starts a process",
    "composition/test_application.py": "composes many configurations",
    "composition/test_bad_command_lines.py": "composes many configurations",
    "composition/test_launchers.py": "runs the commands",
    "commands/test_serve.py": "runs the command",
    "server/test_families.py": "builds models",
    "server/test_service.py": "loads a bundled model",
    "server/test_faulty.py": "the openai client starts a process",
    "slurm/test_slurm.py": "starts SLURM and runs the commands",
    **dict.fromkeys(
        (
            "engines/test_processes.py::test_parallel_jobs_have_disjoint_cores",
            "engines/test_processes.py::test_each_failed_job_has_a_reason_and_the_others_continue",
            "engines/test_processes.py::test_a_job_that_hangs_ends_at_its_time_limit",
            "engines/test_processes.py::test_a_supervised_call_returns_its_end",
            "engines/test_processes.py::test_an_interrupt_interrupts_each_job_once",
        ),
        "starts processes",
    ),
    "test_conf.py": "composes every option of conf",
    "commands/test_data.py::test_the_command_makes_the_subset_and_prints_commands_that_use_it": "runs the command",
    "commands/test_data.py::test_without_a_network_the_command_fails_in_one_line": "runs the command",
    "test_detection_runs.py": "runs the commands",
    "test_docs.py::test_every_run_composes_and_plans": "composes every command of the docs",
    "test_docs.py::test_the_metric_of_the_tutorial_runs_as_documented": "runs the commands",
    "test_docs.py::test_the_example_by_hand_prints_the_shown_output": "runs the commands",
    "commands/test_export.py": "exports a real run",
    "test_gpu_check.py": "runs a shell script",
    "test_hub.py": "downloads and loads checkpoints",
    "test_labelled_runs.py": "runs the commands",
    "test_vision_language_runs.py": "runs the commands",
    "test_pauses.py": "stops processes for a time",
    "test_project.py::test_system_packages_are_installed_only_if_ci_is_true": "starts a process",
    "test_planted_secrets.py": "runs the commands",
    "test_quality_runs.py": "runs the commands",
    "statistics/test_resampling.py": "simulates many samples",
    "commands/test_results.py::test_a_broken_run_is_reported_and_the_others_are_listed": "runs the command",
    "commands/test_results.py::test_an_empty_folder_is_refused_in_one_line": "runs the command",
    "exports/test_onnx.py": "converts models",
    "runtimes/test_int8.py": "runs the commands",
    "test_input_pipeline.py": "runs the commands",
    "stages/test_loader_processes.py": "starts processes",
    "runtimes/test_onnxruntime.py": "converts a model",
    "runtimes/test_runtimes.py": "runs the commands",
    "test_precision_runs.py": "runs the commands",
    "serving/test_loadgen.py::test_a_server_forms_the_same_batches_with_both_generators": "starts processes",
    "test_load_cases.py": "starts git, for the commit of a run",
    "test_runner.py": "measures for several seconds",
    "commands/test_selftest.py": "measures for several seconds",
    "test_resume.py": "runs the commands",
    "test_resolve.py": "uses a hub and runs the commands",
    "test_stand_in_gpu.py": "runs the commands",
    "commands/test_sync.py": "uses MLflow",
    "test_tiers.py": "does what a quick test must not do",
    "test_tiny_models.py": "loads the bundled models",
    "test_tutorial.py": "runs the commands",
    "commands/test_ui.py": "starts MLflow's server",
    "test_weights.py": "builds and loads models",
    "test_model_check.py": "builds models and runs the command",
    "weights/test_attention.py": "builds models",
    "weights/test_image_size.py": "builds and loads models",
    "weights/test_model_types.py": "imports transformers",
    "test_wheel.py": "builds the wheel",
    "test_worker.py": "starts worker processes",
    "trackers/test_database.py": "sends runs to MLflow",
    "trackers/test_faulty_servers.py": "runs the commands",
    "trackers/test_mlflow.py": "sends runs to MLflow",
    "trackers/test_postgresql.py": "starts servers",
}
"""A file, or one function of a file, and why it is slow."""
STARTS_A_PROCESS = (
    (subprocess.Popen, "__init__"),
    (multiprocessing.process.BaseProcess, "start"),
    (multiprocessing.util, "spawnv_passfds"),
    (os, "fork"),
    (os, "forkpty"),
    (os, "posix_spawn"),
    (os, "system"),
)
"""The functions of the standard library that start a process."""


def is_slow(item: pytest.Item) -> bool:
    """Whether a collected test is listed in SLOW, by its file or by its file and function, or is always slow."""
    file = item.path.relative_to(TESTS).as_posix()
    function = getattr(item, "originalname", None) or item.name
    return file in SLOW or f"{file}::{function}" in SLOW or any(map(item.get_closest_marker, ALWAYS_SLOW))


@contextmanager
def guard() -> Iterator[list[str]]:
    """Fail the test that runs inside when it does what only a slow test may do. Yield the reasons."""
    reasons: list[str] = []

    def refuse(reason: str) -> None:
        reasons.append(reason)
        pytest.fail(remedy(reason))

    def refuser(reason: str) -> Callable[..., None]:
        return lambda *_, **__: refuse(reason)

    popen = subprocess.Popen.__init__

    def start(process: subprocess.Popen[Any], words: Any, *rest: Any, **options: Any) -> None:
        if COUNT_GPUS not in words:  # a torch built for CUDA on a machine without NVML counts the GPUs in a process
            refuse("starts a process")
        popen(process, words, *rest, **options)

    def refuse_transformers(parent: torch.nn.Module, *_: Any) -> None:
        if type(parent).__module__.startswith("transformers."):
            refuse("builds a model of transformers")

    class NoMlflow(MetaPathFinder):
        def find_spec(self, name: str, *_: Any) -> None:
            if name == "mlflow":
                refuse("imports MLflow")

    finder = NoMlflow()
    models = torch.nn.modules.module.register_module_module_registration_hook(refuse_transformers)
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in STARTS_A_PROCESS:
            patch.setattr(owner, name, refuser("starts a process"))
        patch.setattr(subprocess.Popen, "__init__", start)
        patch.setattr(dbapi2, "connect", refuser("opens MLflow's database"))
        patch.setattr(sys, "meta_path", [finder, *sys.meta_path])
        try:
            yield reasons
        finally:
            models.remove()


def remedy(reason: str) -> str:
    """The message for a quick test that must not do this."""
    return f"a quick test {reason}: list the test in SLOW in tests/tiers.py"
