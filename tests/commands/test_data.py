"""`visionbench data prepare coco`, from a server on this machine and from a folder."""

import io
import json
import zipfile

import coco_folder
import pytest
from command_line import call

from visionbench.commands import data as command
from visionbench.core import ConfigError
from visionbench.data.coco_captions import CocoCaptions
from visionbench.data.coco_instances import CocoInstances
from visionbench.datafiles import coco_download


def prepared(root, samples=4, source=None):
    assert command.prepare(samples, "val2017", root, source) == 0
    return root / f"val2017-{samples}"


def listed(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_subset_is_read_as_coco(coco_server, tmp_path):
    subset = prepared(tmp_path / "mine")
    captions, instances = CocoCaptions(str(subset)).examples(), CocoInstances(str(subset)).examples()
    assert [example.id for example in captions] == [coco_folder.file_name(at) for at in range(4)]
    assert [example.id for example in instances] == [example.id for example in captions]
    assert all(len(example.captions) == 5 and not example.problems for example in captions)
    assert all(example.masks().shape == (2, 64, 64) and not example.problems for example in instances)


def test_only_the_chosen_images_are_fetched_and_each_file_is_recorded(coco_server, tmp_path):
    subset = prepared(tmp_path / "mine")
    assert sum(path.startswith("/val2017/") for path, _ in coco_server.requests) == 4
    record = json.loads((subset / "provenance.json").read_text())
    assert record["source"] == coco_server.url
    assert set(record["sha256"]) == set(listed(subset)) - {"provenance.json"}
    assert all(len(digest) == 64 for digest in record["sha256"].values())


def test_a_second_call_fetches_nothing_and_changes_nothing(coco_server, tmp_path, capsys):
    before = listed(prepared(tmp_path / "mine"))
    requests = len(coco_server.requests)
    after = listed(prepared(tmp_path / "mine"))
    assert len(coco_server.requests) == requests
    assert {name: body for name, body in after.items() if name != "provenance.json"} == {
        name: body for name, body in before.items() if name != "provenance.json"
    }
    assert "0 new, 4 already present" in " ".join(capsys.readouterr().out.split())


def test_a_larger_subset_does_not_fetch_the_annotations_again(coco_server, tmp_path):
    prepared(tmp_path / "mine", samples=2)
    prepared(tmp_path / "mine", samples=3)
    assert sum(path.endswith(".zip") for path, _ in coco_server.requests) == 1


def test_a_damaged_image_is_fetched_again(coco_server, tmp_path):
    subset = prepared(tmp_path / "mine")
    path = subset / "val2017" / coco_folder.file_name(1)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    prepared(tmp_path / "mine")
    assert path.read_bytes() == whole


def test_a_lost_connection_names_both_remedies_and_continues_later(coco_server, tmp_path):
    coco_server.cut["/annotations/annotations_trainval2017.zip"] = 500
    with pytest.raises(ConfigError) as error:
        prepared(tmp_path / "mine")
    message = str(error.value)
    assert "\n" not in message
    assert (
        "run the same command again, or download" in message and "val2017.zip" in message and "--from FOLDER" in message
    )
    prepared(tmp_path / "mine")
    assert ("/annotations/annotations_trainval2017.zip", "bytes=500-") in coco_server.requests


def test_an_archive_without_the_annotations_is_refused(coco_server, tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("annotations/other.json", "{}")
    coco_server.files["/annotations/annotations_trainval2017.zip"] = packed.getvalue()
    with pytest.raises(ConfigError, match="not COCO's archive of annotations"):
        prepared(tmp_path / "mine")


def test_from_a_folder_nothing_is_fetched(official_coco, tmp_path, monkeypatch):
    monkeypatch.setattr(coco_download, "SERVER", "http://127.0.0.1:9")
    subset = prepared(tmp_path / "mine", source=official_coco)
    assert len(CocoCaptions(str(subset)).examples()) == 4
    (official_coco / "val2017" / coco_folder.file_name(6)).unlink()
    with pytest.raises(ConfigError, match=f"--from {official_coco}: val2017/{coco_folder.file_name(6)} is not in it"):
        prepared(tmp_path / "mine", samples=7, source=official_coco)


@pytest.mark.parametrize("samples", [0, 8])
def test_more_images_than_available_are_refused(official_coco, tmp_path, samples):
    with pytest.raises(ConfigError, match=f"--samples {samples}: val2017 has 1 to 7 images"):
        prepared(tmp_path / "mine", samples=samples, source=official_coco)


def test_without_a_network_the_command_fails_in_one_line(tmp_path):
    done = call(tmp_path, "data", "prepare", "coco", VISIONBENCH_COCO_URL="http://127.0.0.1:9")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "cannot be read" in done.stderr and "--from FOLDER" in done.stderr


def test_the_command_makes_the_subset_and_prints_commands_that_use_it(official_coco, tmp_path):
    done = call(tmp_path, "data", "prepare", "coco", "--samples", "3", "--from", str(official_coco))
    assert done.returncode == 0, done.stderr
    assert "3 new, 0 already present" in done.stdout
    words = [line for line in done.stdout.splitlines() if "coco_instances" in line][0].split()
    assert words[-1] == "data.root=data/coco/val2017-3"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["images"][0].pop("id"), "have no id that is a number or text"),
        (lambda content: content["images"][0].update(id=2), "1 id is listed more than once"),
        (lambda content: content["annotations"][0].update(image_id=None), "name no image"),
        (lambda content: content["annotations"].append(None), "are no objects"),
    ],
)
@pytest.mark.parametrize("kind", ["captions", "instances"])
def test_ambiguous_annotations_are_refused_in_one_line(official_coco, tmp_path, kind, change, message):
    path = official_coco / "annotations" / f"{kind}_val2017.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=rf"{kind}_val2017\.json: .*{message}"):
        prepared(tmp_path / "mine", source=official_coco)


@pytest.mark.parametrize("damage", [{"file_name": "../../1.jpg"}, {"file_name": None}, {"width": None}])
def test_images_with_a_problem_are_not_chosen(official_coco, tmp_path, damage):
    path = official_coco / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    content["images"][0].update(damage)
    for row in content["annotations"]:
        row.pop("iscrowd") if not row["iscrowd"] else None
    path.write_text(json.dumps(content))
    examples = CocoInstances(str(prepared(tmp_path / "mine", source=official_coco))).examples()
    assert [example.id for example in examples] == [coco_folder.file_name(at) for at in range(1, 5)]
