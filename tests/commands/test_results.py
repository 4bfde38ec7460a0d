"""`visionbench results`: the listed entries and their order, by width and as JSON."""

import json
import re

import pytest
from command_line import call, here
from saved_runs import QUALITY, row, save

from visionbench.commands import results
from visionbench.core import OUT_OF_MEMORY, WARNED, ConfigError

LONG = "a_model_with_a_name_that_goes_on_and_on"


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    """Three sweeps, the first of two runs, one of which failed."""
    monkeypatch.setenv("COLUMNS", "100")
    speed = row(throughput_images_per_s=12345.678, latency_p50_ms=1.23456, memory_process_peak_mib=3456.7)
    quality = row(case=QUALITY, verdict=WARNED, recall_i2t_at_1_fraction=0.98765)
    lost = row(status=OUT_OF_MEMORY, reason="no room")
    save(tmp_path / "first" / "0", speed, quality, sweep="2026-01-02_03-04-05")
    save(tmp_path / "first" / "1", lost, name=LONG, kind="cuda:0", sweep="2026-01-02_03-04-05", status="failed")
    save(tmp_path / "second", speed, precision="bf16", sweep="2026-01-03_03-04-05")
    save(tmp_path / "third", speed, sweep="mine")
    return tmp_path


def show(outputs, capsys, sweep=None, where="", runs=False, limit=None, as_json=False):
    """The output: the lines, or the parsed JSON."""
    assert results.show(sweep, outputs, where, runs, limit, as_json) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out) if as_json else out.splitlines()


def test_sweeps_are_listed_newest_first_with_their_contents(outputs, capsys):
    lines = show(outputs, capsys)
    assert lines[0].split() == ["sweep", "started", "runs", "models", "on", "status", "validity"]
    assert [line.split()[0] for line in lines if re.match(r"mine|2026-01-0\d_", line)] == [
        "mine",
        "2026-01-03_03-04-05",
        "2026-01-02_03-04-05",
    ]
    text = "\n".join(lines)
    assert "finished" in text and "1 failed" in text
    assert "warned" in text and "bf16" in text and "cuda:0" in text


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize(
    "options", [{}, {"runs": True}, {"sweep": "2026-01-02_03-04-05"}], ids=["sweeps", "runs", "sweep"]
)
def test_no_number_and_no_id_is_cut_and_long_names_lose_their_middle(outputs, capsys, monkeypatch, options, width):
    monkeypatch.setenv("COLUMNS", str(width))
    lines = show(outputs, capsys, **options)
    text = "\n".join(lines)
    assert max(map(len, text.splitlines()[:4])) <= width
    assert "2026-01-02_03-04-05" in text or "sweep" in options
    if options:
        assert "12,346" in text and "1.235" in text
    assert LONG in text or "…" in text
    assert not re.search("\x1b", text)


def test_a_pipe_has_complete_names(outputs, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS")
    assert LONG in "\n".join(show(outputs, capsys, runs=True))


def test_runs_of_a_sweep_are_listed_by_start_with_their_best_numbers(outputs, capsys):
    lines = show(outputs, capsys, sweep="2026-01-02_03-04-05")
    text = " ".join(" ".join(lines).split())
    assert text.index("clip_tiny") < text.index("a_model")
    for shown in (
        "12,346",
        "best img/s",
        "1.235",
        "3,457",
        "0.988?",
        "1 of 1 failed",
        "? questionable",
        "1 of 2 cases is",
    ):
        assert shown in text


def test_runs_over_all_sweeps_come_newest_first_with_their_sweep(outputs, capsys):
    listed = show(outputs, capsys, runs=True, as_json=True)
    assert [entry["sweep"] for entry in listed["runs"]] == [
        "mine",
        "2026-01-03_03-04-05",
        *["2026-01-02_03-04-05"] * 2,
    ]
    assert "2026-01-02_03-04-05" in "\n".join(show(outputs, capsys, runs=True))


def test_a_limit_shows_the_newest_and_the_total_number(outputs, capsys):
    lines = show(outputs, capsys, limit=1)
    assert lines[1].startswith("mine") and lines[-1] == "1 of 3 sweeps; more with --limit"
    listed = show(outputs, capsys, limit=2, as_json=True)
    assert (listed["total"], len(listed["sweeps"])) == (3, 2)
    (last,) = show(outputs, capsys, sweep="2026-01-02_03-04-05", limit=1, as_json=True)["runs"]
    assert last["model"] == LONG


def test_filters_apply_before_runs_are_grouped(outputs, capsys):
    (listed,) = show(outputs, capsys, where=f"model={LONG}", as_json=True)["sweeps"]
    assert (listed["sweep"], listed["runs"], listed["models"]) == ("2026-01-02_03-04-05", 1, [LONG])
    assert len(show(outputs, capsys, where="validity=valid", runs=True, as_json=True)["runs"]) == 2
    with pytest.raises(ConfigError, match="no run has precision=fp8; there are: bf16, fp32"):
        results.show(None, outputs, "precision=fp8", False, None, False)


def test_json_has_full_precision_and_is_the_only_output(outputs, capsys):
    first, failed = show(outputs, capsys, sweep="2026-01-02_03-04-05", as_json=True)["runs"]
    assert first["best_throughput_per_s"] == 12345.678
    assert first["quality"] == {"recall_i2t_at_1_fraction": 0.98765}
    assert list(first) == list(failed) and failed["lowest_latency_p50_ms"] is None


def test_an_empty_folder_is_refused_in_one_line(tmp_path):
    done = call(tmp_path, "results")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "visionbench: --output-dir outputs: no run in it; measure something first: visionbench run\n"
    )


def test_a_broken_run_is_reported_and_the_others_are_listed(outputs):
    (outputs / "third" / "run.json").write_text('{"uid": "')
    done = here(outputs.parent, "results", "--json", "--output-dir", str(outputs))
    assert done.returncode == 1
    assert [listed["sweep"] for listed in json.loads(done.stdout)["sweeps"]] == [
        "2026-01-03_03-04-05",
        "2026-01-02_03-04-05",
    ]
    assert done.stderr.startswith(f"visionbench: left out {outputs / 'third'}: ") and done.stderr.count("\n") == 1
