"""The registry: where names are found, and how unknown names are refused."""

from importlib.metadata import EntryPoint, EntryPoints

import pytest

from visionbench import registry
from visionbench.core import ConfigError
from visionbench.registry import find, modules, names, nearest, register

PART = "from visionbench.registry import register\n\n@register('metrics', '{name}')\nclass Own: ...\n"


pytestmark = pytest.mark.usefixtures("own_parts_forgotten")


@pytest.fixture
def on_the_path(tmp_path, monkeypatch):
    """A function that writes modules of the given names and sources where Python looks for them."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(**sources):
        for name, source in sources.items():
            (tmp_path / f"{name}.py").write_text(source)

    return write


@pytest.fixture
def entry_point(monkeypatch):
    """A function that installs an entry point of the metrics."""

    def install(name, value):
        installed = EntryPoints([EntryPoint(name, value, "visionbench.metrics")])
        monkeypatch.setattr(registry, "entry_points", lambda **query: installed.select(**query))

    return install


def test_a_bundled_part_is_found_by_its_file_name():
    assert find("devices", "cpu").__name__ == "Cpu"


def test_every_file_of_a_kind_is_listed():
    assert {"latency", "memory", "recall", "throughput"} <= set(names("metrics"))
    assert names("devices") == sorted(names("devices"))


def test_a_registered_class_is_found_again():
    @register("metrics", "sharpness")
    class Sharpness: ...

    assert find("metrics", "sharpness") is Sharpness
    assert "sharpness" in names("metrics")


def test_the_case_of_letters_does_not_matter_for_the_nearest_name():
    assert nearest("FP16", ["bf16", "fp16"]) == "; did you mean 'fp16'?"


def test_of_very_many_names_only_similar_ones_are_listed():
    ending = nearest("zz", [f"name_{number}" for number in range(100)])
    assert ending.startswith("; there are 100, such as: name_") and ending.count(",") == 10


def test_a_wrong_name_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match=r"^there is no 'recal' among the metrics; did you mean 'recall'\?$"):
        find("metrics", "recal")


def test_a_name_without_a_similar_one_is_refused_with_all_names():
    assert nearest("xyz", ["b", "a", "a"]) == "; there are: a, b"
    assert nearest("xyz", []) == ""
    with pytest.raises(ConfigError, match=r"^there is no 'xyz' among the devices; there are: cpu, cuda$"):
        find("devices", "xyz")


@pytest.mark.parametrize("name", ["nowhere.mine", ".mine", "mine.", "", "statistics"])
def test_a_name_of_no_part_is_a_config_error(name):
    with pytest.raises(ConfigError, match=f"^there is no '{name}' among the metrics; "):
        find("metrics", name)


def test_a_module_on_the_path_registers_itself(on_the_path):
    on_the_path(own_metric_a=PART.format(name="own_metric_a"))
    assert find("metrics", "own_metric_a").__name__ == "Own"


def test_a_module_inside_a_package_on_the_path_registers_itself(tmp_path, on_the_path):
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "sharpness.py").write_text(PART.format(name="own_package.sharpness"))
    on_the_path()
    assert find("metrics", "own_package.sharpness").__name__ == "Own"


def test_a_module_that_registers_another_name_is_refused(on_the_path):
    on_the_path(own_metric_b=PART.format(name="own_metric_x"))
    with pytest.raises(ConfigError, match="did you mean 'own_metric_x'"):
        find("metrics", "own_metric_b")


def test_a_failed_import_inside_a_part_is_raised_unchanged(on_the_path):
    on_the_path(own_metric_c="import a_library_nobody_has")
    with pytest.raises(ModuleNotFoundError, match="a_library_nobody_has"):
        find("metrics", "own_metric_c")


def test_an_installed_entry_point_is_found_and_listed(on_the_path, entry_point):
    on_the_path(own_metric_d=PART.format(name="sharpness"))
    entry_point("sharpness", "own_metric_d:Own")
    assert "sharpness" in names("metrics")
    assert find("metrics", "sharpness").__module__ == "own_metric_d"


def test_an_entry_point_that_registers_nothing_is_refused_with_the_missing_line(on_the_path, entry_point):
    on_the_path(own_metric_e="class Own: ...")
    entry_point("sharpness", "own_metric_e:Own")
    with pytest.raises(ConfigError, match=r"no class is registered with @register\('metrics', 'sharpness'\)$"):
        find("metrics", "sharpness")


def test_modules_are_those_of_bundled_parts_of_the_requested_kinds(on_the_path):
    on_the_path(own_metric_f=PART.format(name="own_metric_f"))
    for kind, name in (("metrics", "own_metric_f"), ("metrics", "latency"), ("devices", "cpu")):
        find(kind, name)
    assert "visionbench.metrics.latency" in modules("metrics")
    assert not {"own_metric_f", "visionbench.devices.cpu"} & set(modules("metrics"))
    assert {"visionbench.metrics.latency", "visionbench.devices.cpu"} <= set(modules("metrics", "devices"))
