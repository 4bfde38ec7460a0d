"""Bad input is one line: generated command lines, and faulty files in the user's folder.

`pytest -s` prints how many lines were tried, and how many were answered with more than two lines.
"""

import os
import re
import warnings

import bad_command_lines
import pytest
from command_line import here, plan_runs

from visionbench.cli import cli
from visionbench.composition.overrides import COMMANDS, MOST_RUNS, check
from visionbench.core import ConfigError

GLOBAL = "# @package _global_\n"


@pytest.mark.parametrize(
    ("run_lines", "count"), [(bad_command_lines.run_lines, 300), (bad_command_lines.run_other_lines, 300)]
)
def test_a_bad_command_line_exits_with_two_and_prints_at_most_two_lines(run_lines, count):
    ended = run_lines(count, seed=19)
    print(f"\n{bad_command_lines.summary(ended)}")
    assert not [str(one) for one in ended if one.faults]
    refused = [one for one in ended if not one.accepted]
    assert len(refused) > 0.8 * count
    assert all(one.err.startswith("visionbench: ") or "package '" in one.err for one in refused)


@pytest.fixture
def refusal(tmp_path, monkeypatch):
    """A function from words after `visionbench run` to the message that refuses them, without any file left."""
    monkeypatch.chdir(tmp_path)

    def refusal(*words):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(ConfigError) as caught:
            plan_runs(words)
        assert sorted(tmp_path.rglob("*")) == before
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return refusal


def test_the_names_of_all_other_commands_are_known():
    assert {*COMMANDS, "run"} == set(cli.commands)


# ----------------------------------------------------------------------------------------------------------- overrides
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["batch=1"], "batch=1: no such option; did you mean batch.sizes=[1]?"),
        (["batch=[1,2]"], "batch=[1,2]: no such option; did you mean batch.sizes=[1,2]?"),
        (["-m", "batch=small,8"], "batch=8: no such option; did you mean batch.sizes=[8]?"),
        (["precision=16"], "precision=16: no such option; did you mean precision=fp16?"),
        (["precision=float16"], "precision=float16: no such option; did you mean precision=fp16?"),
        (["precision=null"], "precision=null: no such option; there are: autocast_bf16, autocast_fp16, bf16, fp16,"),
        (["tracking=false"], "tracking=false: no such option; did you mean tracking=none?"),
        (["-m", "modle=clip_tiny,vit_b16"], "there is no key 'modle'; did you mean 'model'?"),
        (["batch_size=8"], "there is no key 'batch_size'; did you mean batch.sizes=[8]?"),
        (["batch.sizes=8"], "batch.sizes=8: not a list; write a list, as in batch.sizes=[8]"),
        (["batch.sizes=1,8"], "batch.sizes=1,8: several values for one run; write a list, as in batch.sizes=[1,8]"),
        (
            ["model=[clip_tiny,vit_b16]"],
            "model=[clip_tiny,vit_b16]: one run has one option of model; sweep over several",
        ),
        (["+model=sam_tiny"], "+model=sam_tiny: model has an option already; write model=sam_tiny, which replaces it"),
        (["experiment={}"], "experiment={}: no such option; there are: choose, quick, tutorial"),
        (["experiment={a:1}"], "experiment={'a': 1}: no such option; there are: choose, quick, tutorial"),
        (["metrics=[latency,1]"], "metrics=1: no such option; there are: all, "),
        (["clip_tiny"], "'clip_tiny': not of the form key=value; did you mean model=clip_tiny?"),
        (["model"], "'model': no option is given; write model=…; there are: "),
        (["doctor"], "'doctor': not of the form key=value; doctor is another command: visionbench doctor"),
        (["=x"], "'=x': no key before the equals sign; write key=value"),
        (["model.name=[1"], "'model.name=[1': '[' is not closed; close it, or quote the value"),
        (["model.name=1]"], "'model.name=1]': ']' closes nothing; close it, or quote the value"),
        (["model.name='x"], "'model.name='x': the quote ' is not closed; close it, or quote the value"),
        (["model.seed=1,"], "'model.seed=1,': a value is missing beside a comma; write model.seed=a,b"),
        (["data.root=~/x"], "'data.root=~/x': ~ is not expanded; write the folder in full, as in data.root=$HOME/x"),
        (["é=1"], "'é=1': 'é' is not a key; write key=value"),
        ([""], "an empty argument; remove it, or write key=value"),
        (["output_dir="], "output_dir is empty; give a folder, as in output_dir=outputs"),
        (["output_dir=' '"], "output_dir is empty; give a folder, as in output_dir=outputs"),
        (["output_dir='~/x'"], "output_dir=~/x: ~ is not expanded; write the folder in full, as in output_dir=$HOME/x"),
        (["output_dir=true"], "output_dir=true: not text; quote the value if it is a name"),
        (["output_dir=null"], "output_dir=null: not a folder; give a folder, as in output_dir=outputs"),
        (["output_dir=[a]"], "output_dir=[a]: not a folder; give a folder, as in output_dir=outputs"),
        (["output_dir={}"], "output_dir={}: not a folder; give a folder, as in output_dir=outputs"),
        (["hydra.run.dir=true"], "hydra.run.dir=true: not a folder; give a folder, as in hydra.run.dir=outputs"),
        (["-m", "hydra.sweep.dir=null"], "hydra.sweep.dir=null: not a folder; give a folder"),
        (["data.root=true"], "data.root=true: not text; quote the value if it is a name"),
        (["tracking={experiment:true}"], "tracking.experiment=true: not text; quote the value if it is a name"),
        (["-m", "model.checkpoint=a,false"], "model.checkpoint=false: not text; quote the value if it is a name"),
        (["output_dir=${oc.env:NOT_SET}"], "output_dir: the environment variable NOT_SET is not set; set it, or"),
        (["output_dir=${output_dir}"], "output_dir: a reference leads back to itself; replace it by a value"),
        (["model.revision=${nowhere}"], "model.revision: the reference ${nowhere} names no key"),
        (["~model.seed"], "~model.seed: this key cannot be removed; set a value, as in model.seed=…"),
        (
            ["measure.latency=5"],
            "measure.latency=5: a section has keys, not one value; write measure.latency.KEY=VALUE",
        ),
        (["hydra.mode=X"], "hydra.mode=X: no such value; there are: RUN, MULTIRUN"),
        (["model.name=''"], "model.name='': not a name for a folder"),
        (["model.name=a/b"], "model.name='a/b': not a name for a folder"),
        (["model.name=.."], "model.name='..': not a name for a folder"),
        ([f"model.name={'a' * 101}"], f"model.name={'a' * 101}: 101 characters; give at most 100"),
        ([f"model={'a' * 5000}"], f"{'a' * 5000}.yaml: File name too long; give a shorter name"),
        (["model.seed=${oc.env:A,B,C}"], "model.seed: a reference cannot be resolved: env() takes from 1 to 2"),
        (["model=../x"], "model=../x: no such option; there are "),
        (["hydra/launcher=zzzz"], "hydra/launcher=zzzz: this launcher is not installed; remove hydra/launcher"),
        (["-m", "hydra/launcher=joblib"], "hydra/launcher=joblib: it sets OMP_NUM_THREADS=1, its jobs share cores"),
        (["hydra/launcher=joblib"], "hydra/launcher=joblib: it sets OMP_NUM_THREADS=1, its jobs share cores"),
        (["-m", "hydra/launcher=submitit_local"], "hydra/launcher=submitit_local: it starts all jobs at once"),
        (["-m", "model.seed=range(3,1)"], "model.seed=range(3,1): the sweep has no value"),
        (["-m", "model.seed=range(0,3,0)"], "model.seed=range(0,3,0): the sweep has no value"),
        (["-m", "model=glob(zz*)"], "model=glob(zz*): the sweep has no value"),
        (["-m", "model.seed=interval(0,1)"], "model.seed=interval(0,1): an interval is not a list of values"),
        (["-m", "model.seed=range(0,200)", "device.threads=range(1,100)"], "the sweep has 19,800 runs; at most 10,000"),
    ],
)
def test_a_bad_override_is_refused_with_what_is_right(refusal, words, message):
    assert refusal(*words).startswith(message)


@pytest.mark.parametrize(
    "texts",
    [
        ["model=clip_tiny", "+metrics=flops", "~experiment", "hydra.run.dir=a b"],
        ["metrics={recall:{ks:[1]}}", "metrics=[latency,memory]", "model.options={part: image}"],
        [f"model.seed=range(0,{MOST_RUNS})", "output_dir='results & more'"],
        ["model=choice(clip_tiny,vit_b16)", "data.root=$HOME/x", "model=glob(clip*)"],
    ],
)
def test_a_valid_override_passes_the_check(texts):
    check(texts)


def test_folders_that_a_refused_command_created_are_removed_and_others_stay(refusal, tmp_path):
    (tmp_path / "mine").mkdir()
    refusal("model.weights=x", "output_dir=mine/a/b")


def test_a_refused_sweep_of_another_launcher_leaves_no_folder(tmp_path):
    done = here(tmp_path, "run", "-m", "modle=1,2", "hydra/launcher=basic")
    assert (done.returncode, done.stderr.count("\n"), list(tmp_path.iterdir())) == (2, 1, [])


def test_a_missing_file_of_clusters_is_refused_before_the_run(tmp_path):
    words = ["batch=single", "metrics=[latency]", "tracking=none", "data.options.samples=8", "data.clusters=nowhere"]
    done = here(tmp_path, "run", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("visionbench: data.clusters=nowhere: No such file or directory")
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    "words", [["--info", "mdl=1"], ["zz=1", "--info"], ["--cfg", "job", "zz=1"], ["zz=1", "--help"]]
)
def test_information_about_a_bad_configuration_prints_nothing_on_standard_output(tmp_path, words):
    done = here(tmp_path, "run", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


# --------------------------------------------------------------------------------------------------------------- files
@pytest.fixture
def file_refusal(refusal, tmp_path):
    """A function from the name and the text of a file in the user's folder to the message, without the folder."""

    def file_refusal(name, text, *words):
        path = tmp_path / "my_conf" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        group, option = path.parent.name, path.stem
        message = refusal("--config-dir", "my_conf", *(words or [f"{'+' * (group == 'metrics')}{group}={option}"]))
        return message.removeprefix("my_conf/")

    return file_refusal


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("model/mine.yaml", "name: [\n", "model/mine.yaml, line 2: not valid YAML (expected the node content"),
        (
            "model/mine.yaml",
            "name: x\n\tseed: 1\n",
            "model/mine.yaml, line 2: not valid YAML (a tab; indent with spaces)",
        ),
        ("model/mine.yaml", "name: a\nname: b\n", "model/mine.yaml, line 2: not valid YAML (found duplicate key name)"),
        ("model/mine.yaml", b"\x80\x81\x00", "model/mine.yaml: not text in UTF-8; save the file in UTF-8"),
        ("model/mine.yaml", "- a\n", "model/mine.yaml: not a mapping; write one key per line, as in 'name: value'"),
        ("model/mine.yaml", "5\n", "model/mine.yaml: not a mapping; write one key per line, as in 'name: value'"),
        ("model/mine.yaml", "null: 1\n", "model/mine.yaml: config: Incompatible key type 'NoneType'"),
        ("model/mine.yaml", "a: &x [*x]\n", "model/mine.yaml: an anchor contains itself; remove the anchor"),
        ("model/mine.yaml", "", "'model.name' has no value; give it one, as in model.name=…"),
        ("model/mine.yaml", "nme: x\n", "model/mine.yaml: there is no key 'model.nme'; did you mean 'model.name'?"),
        ("model/mine.yaml", "seed: abc\n", "model/mine.yaml: model.seed=abc: not a whole number"),
        ("model/mine.yaml", "options: 5\n", "model/mine.yaml: model.options: a section has keys, not one value"),
        ("model/mine.yaml", "name: ${model.name}\n", "model.name: a reference leads back to itself"),
        ("model/mine.yaml", "name: no\n", "model/mine.yaml: model.name=false: not text; quote the value if it is a"),
        ("experiment/mine.yaml", f"{GLOBAL}output_dir: true\n", "experiment/mine.yaml: output_dir=true: not text"),
        ("model/mine.yaml", "defaults: 5\n", "model/mine.yaml: defaults=5: not a list"),
        (
            "model/mine.yaml",
            "defaults: [{a: 1, b: 2}]\n",
            "model/mine.yaml: defaults: {'a': 1, 'b': 2} is not one option",
        ),
        (
            "model/mine.yaml",
            "defaults: [clip_tny]\n",
            "model/mine.yaml: defaults: model=clip_tny: no such option; did you",
        ),
        ("model/mine.yaml", "defaults: [mine]\n", "the configuration refers to itself"),
        (
            "batch/mine.yaml",
            "sizes: 8\n",
            "batch/mine.yaml: batch.sizes=8: not a list; write a list, as in batch.sizes=[8]",
        ),
        ("metrics/mine.yaml", "5\n", "metrics/mine.yaml: not a mapping"),
        ("experiment/mine.yaml", "model: {seed: 1}\n", "experiment/mine.yaml: there is no section 'experiment'"),
        (
            "experiment/mine.yaml",
            f"{GLOBAL}modle: {{}}\n",
            "experiment/mine.yaml: there is no key 'modle'; did you mean",
        ),
        (
            "experiment/mine.yaml",
            f"{GLOBAL}model: clip_tiny\n",
            "experiment/mine.yaml: model=clip_tiny: a section has keys",
        ),
        (
            "experiment/mine.yaml",
            f"{GLOBAL}defaults:\n- override /batch: 8\n",
            "experiment/mine.yaml: defaults: override /batch: 8: no such option; did you mean batch.sizes=[8]?",
        ),
        ("experiment/mine.yaml", f"{GLOBAL}output_dir: ' '\n", "output_dir is empty; give a folder"),
    ],
)
def test_a_faulty_file_of_the_user_is_refused_with_its_name(file_refusal, name, text, message):
    assert file_refusal(name, text).startswith(message)


@pytest.mark.parametrize(
    "words",
    [
        ["tracking.uri=http://me:hunter2@host"],
        ["tracking.url=http://me:hunter2@host"],
        ["tracking.uri='http://me:hunter2@host'"],
        ["-m", "tracking.uri=http://me:hunter2@host,http://host", "hydra/launcher=basic"],
        ["-m", "+data.options.token=a,hunter2", "model.seed=1,2"],
        ["+model.options={api_key: hunter2}"],
        ["+hydra.job.env_set.HF_TOKEN=hunter2"],
        ["tracking.uri=me:hunter2@host:5000"],
    ],
)
def test_a_typed_credential_is_refused_and_no_file_is_written(tmp_path, words):
    done = here(tmp_path, "run", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n"), list(tmp_path.iterdir())) == (2, "", 1, [])
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("tracking/mine.yaml", "uri: http://me:hunter2@host\n", ["tracking=mine"]),
        ("experiment/mine.yaml", f"{GLOBAL}tracking: {{uri: 'http://me:hunter2@host'}}\n", ["experiment=mine"]),
        ("experiment/mine.yaml", f"{GLOBAL}hydra: {{job: {{env_set: {{HF_TOKEN: hunter2}}}}}}\n", ["experiment=mine"]),
        ("data/mine.yaml", "name: shapes\noptions: {token: hunter2}\n", ["-m", "data=mine", "hydra/launcher=basic"]),
    ],
)
def test_a_credential_in_a_file_of_the_user_is_refused_with_the_file(file_refusal, name, text, words):
    message = file_refusal(name, text, *words)
    assert message.startswith(f"{name}: ") and "would be saved with the results" in message
    assert "hunter2" not in message


def test_a_file_that_is_not_selected_is_not_blamed(file_refusal):
    assert file_refusal("model/mine.yaml", "name: [\n", "model=clip_tny").startswith("model=clip_tny: no such option")


BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model/mine.yaml", ["model=mine"]),
        ("experiment/mine.yaml", ["experiment=mine"]),
        ("config.yaml", ["batch=single"]),
        ("other.yaml", ["--config-name=other"]),
        ("model/mine.yaml", ["-m", "model=glob(mi*)", "hydra/launcher=basic"]),
    ],
)
def test_a_file_whose_aliases_expand_to_millions_of_values_is_refused_before_it_is_loaded(file_refusal, name, words):
    assert re.match(
        rf"{name}: its aliases expand to \d\S+ values; write at most 10,000", file_refusal(name, BOMB, *words)
    )


def bomb(value):
    """A model whose options refer to each other, so that the last one resolves to 9 ** 9 values."""
    values = "".join(f"  a{level}: {value.replace('X', f'..a{level - 1}')}\n" for level in range(1, 10))
    return f"name: x\nfamily: dual_encoder\noptions:\n  a0: [x, y]\n{values}"


@pytest.fixture
def elsewhere(refusal, tmp_path):
    """A function from a model's file to its refusal, in a folder that only the search path of Hydra names."""

    def elsewhere(text, *words):
        (tmp_path / "elsewhere" / "model").mkdir(parents=True)
        path = tmp_path / "elsewhere" / "model" / "mine.yaml"
        os.mkfifo(path) if text is None else path.write_bytes(text)
        return refusal(*words).removeprefix(f"{tmp_path}/").removeprefix("elsewhere/model/")

    return elsewhere


BAD_FILES = [
    (BOMB.encode(), "mine.yaml: its aliases expand to "),
    (b"#" * 2_000_000, "mine.yaml: larger than 1,000,000 bytes"),
    (None, "mine.yaml: a named pipe, not a file"),
    (b"name: x\n_target_: os.system\n", "mine.yaml: model._target_: a configuration cannot name code to run"),
    (b"name: [\n", "mine.yaml, line 2: not valid YAML"),
    (b"\xff\xfe", "mine.yaml: not text in UTF-8"),
]
IDS = ["aliases", "large", "pipe", "code", "not YAML", "not UTF-8"]


@pytest.mark.parametrize("path", ["elsewhere", "file://elsewhere"])
@pytest.mark.parametrize(("text", "message"), BAD_FILES, ids=IDS)
def test_a_file_of_hydras_search_path_is_checked_before_it_is_loaded(elsewhere, text, message, path):
    assert elsewhere(text, f"hydra.searchpath=[{path}]", "model=mine").startswith(message)


@pytest.mark.parametrize(("text", "message"), BAD_FILES[:3], ids=IDS[:3])
def test_a_file_of_config_path_is_checked_before_it_is_loaded(elsewhere, tmp_path, text, message):
    words = [f"--config-path={tmp_path / 'elsewhere'}", "--config-name=model/mine"]
    assert elsewhere(text, *words).startswith(message)


def test_a_file_that_a_function_selects_on_hydras_search_path_is_checked(elsewhere):
    words = ["-m", "hydra.searchpath=[elsewhere]", "model=choice(mine,clip_tiny)"]
    assert elsewhere(BOMB.encode(), *words).startswith("mine.yaml: its aliases expand to ")


REFERENCE = '"${X}"'
TEXTS = bomb("'" + "${X}" * 9 + "'").replace("..", ".")
LISTS = bomb("[" + ", ".join([REFERENCE] * 9) + "]")
MAPPINGS = bomb("{" + ", ".join(f"k{number}: {REFERENCE}" for number in range(9)) + "}")
REPEATED = "name: x\nfamily: dual_encoder\noptions:\n  a: [" + "x, " * 4000 + "]\n  b: [" + '"${..a}", ' * 400 + "]\n"


@pytest.mark.parametrize("words", [[], ["--cfg=job", "--resolve"], ["--cfg=all", "--resolve"]], ids=" ".join)
@pytest.mark.parametrize(
    "text", [TEXTS, LISTS, MAPPINGS, REPEATED], ids=["texts", "lists", "mappings", "one long list"]
)
def test_references_that_expand_to_millions_of_values_are_refused(file_refusal, text, words):
    message = file_refusal("model/mine.yaml", text, "model=mine", *words)
    assert re.match(r"model\.options\S+: the references expand to too many values; replace references by", message)


def test_references_of_the_section_of_hydra_are_limited(file_refusal):
    message = file_refusal("model/mine.yaml", TEXTS, "model=mine", "+hydra.job_logging.x=${model.options.a9}")
    assert "the references expand to too many values" in message


def test_a_list_of_models_with_too_many_references_is_refused(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text(LISTS)
    done = here(tmp_path, "models", "--config-dir", ".")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "model/mine.yaml: model.options.a1" in done.stderr and "the references expand to" in done.stderr


def test_a_deprecated_key_is_a_note_of_the_run_and_prints_nothing_else(tmp_path):
    done = here(tmp_path, "run", "--dry-run", "model.revision=${oc.deprecated:model.name}")
    note = "! 'model.revision' is deprecated. Change your code and config to use 'model.name'\n"
    assert (done.returncode, done.stdout.count(note), done.stderr) == (0, 1, "")


def test_a_deprecated_key_in_a_shown_configuration_is_one_line(tmp_path):
    words = ["model.revision=${oc.deprecated:model.name}", "--cfg=job", "--resolve"]
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # pytest raises warnings
        done = here(tmp_path, "run", *words)
    line = "visionbench: 'model.revision' is deprecated. Change your code and config to use 'model.name'\n"
    assert (done.returncode, done.stderr) == (0, line)


@pytest.mark.parametrize("words", [["results", "a" * 5000], ["run", "model.name='" + "a " * 3000 + "b'"]])
def test_a_long_value_is_shortened_in_the_middle(tmp_path, words):
    done = here(tmp_path, *words)
    assert done.returncode == 2 and "…" in done.stderr and len(done.stderr) < 2100


@pytest.mark.parametrize("value", ["1" * 5000, "!!int abc", "!!bool maybe", "!!int ''", "!!float x", "!!timestamp x"])
def test_a_value_that_yaml_cannot_convert_is_refused_with_its_file(file_refusal, value):
    message = file_refusal("model/mine.yaml", f"name: x\nseed: {value}\n")
    assert message.startswith("model/mine.yaml: ") and len(message) < 300


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
@pytest.mark.parametrize("name", ["model/mine.yaml", "model/clip_tiny.yaml", "config.yaml"])
def test_an_option_that_is_not_a_file_is_refused_with_its_name(refusal, tmp_path, make, name):
    path = tmp_path / "my_conf" / name
    path.parent.mkdir(parents=True)
    make(path)
    message = refusal("--config-dir", "my_conf", *([f"model={path.stem}"] if path.stem != "config" else []))
    assert re.match(rf"my_conf/{name}: a (named pipe|folder), not a file; ", message)


def test_a_main_file_without_the_schema_is_refused(file_refusal):
    message = file_refusal("config.yaml", "output_dir: x\n", "batch=single")
    assert message.startswith("config.yaml: replaces the bundled config.yaml, but its defaults lack visionbench_schema")


@pytest.mark.parametrize(
    "word", ["hydra.run.dir=null", "hydra.sweep.dir=null", "hydra.sweep.dir=", "hydra/launcher=joblib", "model=[a"]
)
def test_a_plan_refuses_the_overrides_that_a_run_refuses(tmp_path, word):
    """A plan replaces the folders and the launcher, so their values are checked before."""
    runs = [here(tmp_path, "run", "-m", word, *words) for words in ([], ["--dry-run"])]
    assert [run.returncode for run in runs] == [2, 2]
    assert runs[0].stderr == runs[1].stderr != ""
    assert list(tmp_path.iterdir()) == []
