"""Jobs of a sweep: each has the configuration of a command for it alone, and files are not read for each job."""

import pytest
from command_line import PlanOnly
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigSource

from visionbench.composition import main, parse
from visionbench.core import ConfigError
from visionbench.resolve import Resolver


class Composed(PlanOnly):
    """Stores the composed runs, and measures nothing."""

    def __init__(self):
        super().__init__(Resolver())
        self.composed = []

    def prepare(self, runs):
        self.composed += runs

    def measure(self, index, folder, sweep):
        pass

    def complete(self):
        pass


@pytest.fixture
def compose(tmp_path, monkeypatch):
    """A function from words of the command line to the composed runs."""
    monkeypatch.chdir(tmp_path)

    def compose(*words):
        application = Composed()
        main(parse([*words, "hydra.sweep.dir=sweep", "hydra.run.dir=run"]), application)
        return application.composed

    return compose


@pytest.fixture
def files_read(monkeypatch):
    """The names of the configuration files that Hydra reads."""
    names = []
    source = next(one for one in Plugins.instance().discover(ConfigSource) if one.scheme() == "file")
    read = source.load_config

    def load_config(self, config_path):
        names.append(config_path)
        return read(self, config_path)

    monkeypatch.setattr(source, "load_config", load_config)
    return names


def test_a_job_of_a_sweep_has_the_configuration_of_a_command_for_it_alone(compose):
    runs = compose("-m", "model=clip_tiny,sam_tiny", "model.seed=3,4", "batch.sizes=[8]", "+data.options.x=1")
    assert len(runs) == 4
    for run in runs:
        (alone,) = compose(*run.overrides)
        assert run.config.to_yaml() == alone.config.to_yaml()
        assert (run.overrides, run.experiment, run.notes) == (alone.overrides, alone.experiment, alone.notes)


def test_a_value_of_one_job_is_not_in_the_next(compose):
    first, second = compose("-m", "device.threads=1,2", "model.seed=5")
    assert (first.config.values.device.threads, second.config.values.device.threads) == (1, 2)


def test_each_job_has_the_options_of_its_own_experiment(compose):
    sizes = [run.config.values.measure.name for run in compose("-m", "measure=quick,standard,quick")]
    assert sizes == ["quick", "standard", "quick"]


def test_further_jobs_with_the_same_options_read_no_file(compose, files_read):
    compose("-m", "model.seed=1,2")
    first = len(files_read)
    assert first
    files_read.clear()
    compose("-m", "model.seed=1,2,3,4,5,6")
    assert len(files_read) == first


def test_each_job_has_the_folder_of_its_own_overrides(compose):
    words = ("model.seed=1,2", "device.threads=1", "hydra.sweep.subdir=${hydra.job.override_dirname}")
    folders = [run.place.folder.name for run in compose("-m", *words)]
    assert folders == ["device.threads=1,model.seed=1", "device.threads=1,model.seed=2"]


def test_a_wrong_value_of_a_later_job_is_refused_with_its_key(compose):
    with pytest.raises(ConfigError, match=r"device.threads=x: not a whole number"):
        compose("-m", "device.threads=1,x")
