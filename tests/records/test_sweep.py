"""The record of a sweep, and the command that continues it."""

from visionbench.records.sweep import resume_command

SWEEP = "2026-11-26_11-58-06"


def test_the_command_that_continues_a_sweep_names_the_folder_only_if_it_is_not_the_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resume_command(tmp_path / "outputs" / SWEEP, SWEEP) == f"visionbench run resume={SWEEP}"
    assert resume_command(tmp_path / "my sweeps" / "x", "x") == "visionbench run 'resume=my sweeps/x'"
    (tmp_path / "outputs").mkdir()
    monkeypatch.chdir(tmp_path / "outputs")
    assert resume_command(tmp_path / "x", "x") == "visionbench run resume=" + str(tmp_path / "x")
