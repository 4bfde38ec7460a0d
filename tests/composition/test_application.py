"""How Hydra runs the application: in which calls, with which files, and what is left after a refusal."""

import sys
from contextlib import suppress

import pytest
from command_line import PlanOnly, plan_runs
from hydra import __version__

from visionbench.composition import main, parse
from visionbench.composition.application import remove_unused
from visionbench.core import ConfigError
from visionbench.resolve import Resolver

CLIP = "name: clip_tiny\nfamily: dual_encoder\ncheckpoint: bundled:clip_tiny\nseed: 7\n"


class Calls(PlanOnly):
    """Plans, and records the calls."""

    def __init__(self):
        super().__init__(Resolver())
        self.calls = []

    def prepare(self, runs):
        self.calls.append(f"prepare {len(runs)}")
        super().prepare(runs)

    def measure(self, index, folder, sweep):
        assert (folder / ".hydra" / "overrides.yaml").is_file()
        self.calls.append(f"measure {index} in {sweep}/{folder.name}")

    def complete(self):
        self.calls.append("complete")

    def run_alone(self, run, folder, sweep):
        self.calls.append(f"alone {run.config.values.model.seed} in {sweep}/{folder.name}")
        return 0


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """A function from words of the command line to the calls that Hydra makes."""
    monkeypatch.chdir(tmp_path)

    def calls(*words):
        application = Calls()
        main(parse(words), application)
        return application.calls

    return calls


@pytest.fixture
def own(tmp_path):
    """A function that writes a file into the user's folder, and returns the folder."""

    def own(name, text):
        path = tmp_path / "my_conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(tmp_path / "my_conf")

    return own


# --------------------------------------------------------------------------------------------------------------- calls
def test_one_run_is_prepared_and_measured_in_its_folder(calls):
    assert calls("hydra.run.dir=outputs/one") == ["prepare 1", "measure 0 in one/one", "complete"]


def test_all_runs_of_a_sweep_are_prepared_before_the_first_is_measured(calls):
    assert calls("-m", "model.seed=0,1", "hydra.sweep.dir=outputs/two", "hydra.sweep.subdir=${hydra.job.num}") == [
        "prepare 2",
        "measure 0 in two/0",
        "measure 1 in two/1",
        "complete",
    ]


def test_batches_of_a_sweeper_are_prepared_one_after_the_other(calls):
    words = ["model.seed=0,1", "hydra.sweeper.max_batch_size=1", "hydra.sweep.dir=two"]
    assert calls("-m", *words, "hydra.sweep.subdir=${hydra.job.num}") == [
        *("prepare 1", "measure 0 in two/0", "complete"),
        *("prepare 1", "measure 0 in two/1", "complete"),
    ]


def test_with_another_launcher_each_run_is_alone_in_the_same_sweep(calls):
    words = ["model.seed=0,1", "hydra/launcher=basic", "hydra.sweep.dir=two", "hydra.sweep.subdir=${hydra.job.num}"]
    assert calls("-m", *words) == ["alone 0 in two/0", "alone 1 in two/1"]


@pytest.mark.parametrize(
    ("words", "output"),
    [
        (["--cfg", "job"], "name: clip_tiny"),
        (["--help"], "measure: quick, standard, thorough"),
        (["--hydra-help"], "hydra/launcher: basic"),
        (["--version"], f"Hydra {__version__}"),
        (["-sc", "install=bash"], "complete"),
    ],
)
def test_what_hydra_answers_itself_prepares_nothing(calls, capsys, words, output):
    with suppress(SystemExit):
        assert calls(*words) == []
    assert output in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------------- refusal
@pytest.mark.parametrize("words", [["model.weights=randm"], ["-m", "model.weights=randm,x"], ["-m", "batch=small,no"]])
def test_a_refused_command_leaves_no_file(calls, tmp_path, words):
    with pytest.raises(ConfigError):
        calls(*words)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_results_is_not_removed(tmp_path):
    (tmp_path / "outputs" / ".hydra").mkdir(parents=True)
    (tmp_path / "outputs" / "results.jsonl").touch()
    remove_unused(tmp_path / "outputs")
    assert (tmp_path / "outputs" / "results.jsonl").is_file()
    remove_unused(tmp_path / "nowhere")


def test_the_command_line_is_as_before_after_a_refusal(calls, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["visionbench", "run"])
    with pytest.raises(ConfigError):
        calls("model=clip_tny")
    assert sys.argv == ["visionbench", "run"]


# ---------------------------------------------------------------------------------------------------- the user's folder
def test_a_users_file_replaces_a_bundled_file_of_the_same_name(own):
    folder = own("model/clip_tiny.yaml", CLIP)
    ((config, _),) = plan_runs(["--config-dir", folder])
    assert config.model.seed == 7


def test_a_users_data_set_replaces_a_bundled_fallback(own, tmp_path):
    folder = own("data/shapes.yaml", "name: shapes\noptions: {samples: 5}\n")
    ((config, _),) = plan_runs(
        ["--config-dir", folder, "data=captioned_folder", "data.root=none", "data.fallback=shapes"]
    )
    resolution = Resolver(tmp_path / "my_conf").resolve(config)
    assert resolution.changes["data.options"] == {"samples": 5}
    assert resolution.notes[-1].endswith("my_conf/data/shapes.yaml replaces the bundled file of the same name")


def test_the_replacement_is_a_note_of_the_run(own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own("model/clip_tiny.yaml", CLIP)
    notes = []
    application = Calls()
    monkeypatch.setattr(application, "prepare", lambda runs: notes.extend(runs[0].notes))
    main(parse(["--config-dir", "my_conf", "batch=single"]), application)
    assert notes == ["model=clip_tiny: my_conf/model/clip_tiny.yaml replaces the bundled file of the same name"]


def test_the_users_folder_is_not_searched_after_the_command(own):
    folder = own("model/clip_tiny.yaml", CLIP)
    assert plan_runs(["--config-dir", folder])[0][0].model.seed == 7
    assert plan_runs([])[0][0].model.seed == 0


# -------------------------------------------------------------------------------------------------------- renamed keys
@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("data.otherwise=shapes", "data.otherwise was renamed to data.fallback; use data.fallback=shapes"),
        ("+data.otherwise=shapes", "data.otherwise was renamed to data.fallback; use data.fallback=shapes"),
        ("report.make=true", "report.make was renamed to report.enabled; use report.enabled=true"),
    ],
)
def test_an_old_key_on_the_command_line_is_refused_with_the_new_one(word, message):
    with pytest.raises(ConfigError) as caught:
        plan_runs([word])
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "text", "word", "message"),
    [
        (
            "experiment/mine.yaml",
            "# @package _global_\ndata:\n  otherwise: shapes\n",
            "experiment=mine",
            "data.otherwise was renamed to data.fallback; use data.fallback=shapes",
        ),
        (
            "experiment/mine.yaml",
            "# @package _global_\nreport:\n  make: false\n",
            "experiment=mine",
            "report.make was renamed to report.enabled; use report.enabled=false",
        ),
        (
            "data/mine.yaml",
            "name: shapes\notherwise: shapes\n",
            "data=mine",
            "data.otherwise was renamed to data.fallback; use data.fallback=shapes",
        ),
        ("model/mine.yaml", "name: mine\nfamly: x\n", "model=mine", "there is no key 'model.famly'; did you mean"),
    ],
)
def test_a_wrong_key_in_a_users_file_is_refused_with_the_file(own, name, text, word, message):
    folder = own(name, text)
    with pytest.raises(ConfigError) as caught:
        plan_runs(["--config-dir", folder, word])
    assert str(caught.value).startswith(f"{folder}/{name}: {message}")


# -------------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["modle=x"], "there is no key 'modle'; did you mean 'model'?"),
        (["modle.weights=x"], "there is no key 'modle'; did you mean 'model'?"),
        (["precision.dtype=[1]"], "precision.dtype=[1]: not text"),
        (["--config-name", "nothing"], "--config-name nothing: there is no such file"),
        (["hydra/launcher=bsic"], "hydra/launcher=bsic: no such option; did you mean 'basic'?"),
        (
            ["model=clip_tiny,vit_b16"],
            "model=clip_tiny,vit_b16: several values for one run; sweep over them, as in -m model=clip_tiny,vit_b16",
        ),
        (["output_dir=${nowhere}"], "output_dir: "),
        (["model.name=???"], "'model.name' has no value; give it one, as in model.name=…"),
    ],
)
def test_an_error_of_hydra_is_one_line(words, message):
    with pytest.raises(ConfigError) as caught:
        plan_runs(words)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_hydras_files_exist_after_a_run(calls, tmp_path):
    calls("-m", "model.seed=0,1", "hydra.sweep.dir=two", "hydra.sweep.subdir=${hydra.job.num}")
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["0", "1", "multirun.yaml"]
    assert "model.seed=1" in (tmp_path / "two" / "1" / ".hydra" / "overrides.yaml").read_text()
