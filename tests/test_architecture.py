"""The layers of the package: each file imports only from the layers that it may use, checked in the source.

`python tests/test_architecture.py` draws the layers with the imports of each room.
"""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import python_path

import visionbench

PACKAGE = Path(visionbench.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
LAYERS = (
    {"core"},
    {"architectures", "credentials", "deadline", "ranges", "references", "registry", "signals", "statistics"}
    | {"suggestions", "yaml_limits"},
    {"config", "datafiles", "declarations", "machine", "validity", "variation"},
    {"engines", "exports", "parts", "records", "remote", "serving", "weights"},
    {"composition"},
    {"examples"},
    {"data_check", "diagnosis"},
    {"models", "devices", "data", "decoders", "metrics", "runtimes"},
    {"stages"},
    {"plan"},
    {"measuring", "worker"},
    {"batch_search", "model_check", "remote_measuring"},
    {"model_inspection"},
    {"runner", "server"},
    {"results"},
    {"terminal"},
    {"report"},
    {"trackers"},
    {"resolve"},
    {"resume"},
    {"session"},
    {"dry_run", "jobs", "tuning"},
)
PARTS = {"models", "devices", "data", "decoders", "metrics", "runtimes"}
"""A file imports from its own room and from the layers above this line in the list, except that parts do not import
each other."""
MAY_IMPORT = {
    room: set().union(*LAYERS[:at], layer if room not in PARTS else set())
    for at, layer in enumerate(LAYERS)
    for room in layer
}
"""The first name below `visionbench` of a file, and the names that it may import; `cli` and `commands` may import any
other room."""
SIBLINGS_APART = PARTS | {"trackers"}
HEAVY = {"torch", "transformers", "mlflow", "optuna"}
ONLY_IN = {
    "mlflow": ("trackers/",),
    "hydra": ("composition/",),
    "optuna": ("tuning/",),
    "omegaconf": ("config.py", "references.py", "composition/"),
}


def name(path):
    return str(path.relative_to(PACKAGE))


def layer(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree):
    """Dotted names of all that is imported anywhere below a node; `from a import b` counts as `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(path):
    """What a file imports of visionbench, as paths below it."""
    names = (dotted.split(".") for dotted in imported(ast.parse(path.read_text())))
    return [parts[1:] for parts in names if parts[0] == "visionbench" and len(parts) > 1]


def run_at_import(node):
    """The statements that run when a module is imported: not the bodies of functions, nor what is for type checkers."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from (line for other in child.orelse for line in [other, *run_at_import(other)])
            continue
        yield child
        yield from run_at_import(child)


def test_every_file_has_its_layer():
    assert {layer(path) for path in FILES} - {"__init__", "__main__"} == {*MAY_IMPORT, "cli", "commands"}


@pytest.mark.parametrize("path", [path for path in FILES if layer(path) in MAY_IMPORT], ids=name)
def test_a_module_imports_only_from_lower_layers(path):
    room = layer(path)
    deep = path.name != "__init__.py" or len(path.relative_to(PACKAGE).parts) > 2
    own_room = {room} if deep or room == "core" else set()
    assert {parts[0] for parts in ours(path)} <= MAY_IMPORT[room] | own_room


@pytest.mark.parametrize("path", [path for path in FILES if layer(path) in SIBLINGS_APART], ids=name)
def test_parts_of_a_kind_do_not_import_each_other(path):
    part = path.relative_to(PACKAGE).parts[1].removesuffix(".py")
    assert all(parts[1:2] == [part] for parts in ours(path) if parts[0] == layer(path))


def test_only_commands_import_composition():
    assert {layer(path) for path in FILES if ["composition"] in [parts[:1] for parts in ours(path)]} == {
        "commands",
        "composition",
    }


@pytest.mark.parametrize("path", [path for path in FILES if layer(path) == "commands"], ids=name)
def test_no_command_imports_another(path):
    assert not [parts for parts in ours(path) if parts[0] == "commands"]


def test_no_private_module_of_hydra_is_imported_and_none_of_its_classes_is_changed():
    sources = {path: path.read_text() for path in PACKAGE.parent.rglob("*.py")}
    assert any(path.parent.name == "hydra_plugins" for path in sources)
    for path, text in sources.items():
        private = [dotted for dotted in imported(ast.parse(text)) if dotted.startswith("hydra._internal")]
        assert not private and "__deepcopy__" not in text, path


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_library_is_imported_only_where_it_belongs(path):
    used = {dotted.split(".")[0] for dotted in imported(ast.parse(path.read_text()))}
    misplaced = {
        library for library, places in ONLY_IN.items() if library in used and not name(path).startswith(places)
    }
    assert not misplaced


DEFINITIONS = [path for path in FILES if layer(path) == "architectures" and path.name != "__init__.py"]
"""Models that are written as classes of transformers, so that their modules import it."""


@pytest.mark.parametrize("path", FILES, ids=name)
def test_the_definition_of_a_model_is_never_imported_by_name(path):
    """Only `architectures.register` imports it, when a model needs it."""
    parts = [parts for parts in ours(path) if parts[0] == "architectures"]
    assert all(len(words) == 1 or words[1] not in {definition.stem for definition in DEFINITIONS} for words in parts)


@pytest.mark.parametrize("path", [path for path in FILES if path not in DEFINITIONS], ids=name)
def test_importing_a_module_imports_nothing_heavy(path):
    statements = run_at_import(ast.parse(path.read_text()))
    lines = [line for line in statements if isinstance(line, ast.Import | ast.ImportFrom)]
    assert not {dotted.split(".")[0] for line in lines for dotted in imported(line)} & HEAVY


def test_composing_and_planning_a_run_loads_neither_torch_nor_mlflow():
    code = """
import json, sys
import visionbench.cli
from command_line import plan_runs
assert plan_runs(["model=clip_vit_b32", "precision=bf16"])
print(json.dumps(sorted(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": python_path(Path(__file__).parent)},
    )
    loaded = json.loads(done.stdout)
    assert "visionbench.models.dual_encoder" in loaded
    assert not HEAVY & set(loaded)


# ------------------------------------------------------------------------------------------------------------- drawing
def draw():
    """Return the layers from top to bottom, one room per line, with the rooms that it imports."""
    imports = {}
    for path in FILES:
        imports.setdefault(layer(path), set()).update(parts[0] for parts in ours(path))
    lines = []
    for rooms in [{"cli"}, {"commands"}, *reversed(LAYERS)]:
        lines += [
            f"{room:12} → {', '.join(sorted(imports.get(room, set()) - {room})) or '–'}" for room in sorted(rooms)
        ]
        lines.append("")
    return "\n".join(lines).rstrip()


def test_the_drawing_has_a_line_for_each_room():
    rooms = {line.split()[0] for line in draw().splitlines() if line}
    assert rooms == {*MAY_IMPORT, "cli", "commands"}


if __name__ == "__main__":
    print(draw())
