"""Runs on tar shards, metadata files and Parquet files from the command line: the figures are those of the same images
in another layout, and annotations that the files do not have are refused with the reason."""

import io
import json
import shutil
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import here

from visionbench.data.shapes import LABELS, Shapes
from visionbench.records.folder import RunFolder

SAMPLES = 30
FAST = ["tracking=none", "device.threads=1", "batch=single", "measure=quick"]


def write_shards(root, examples):
    (root / "test").mkdir(parents=True)
    for shard in range(2):
        with tarfile.open(root / "test" / f"{shard}.tar", "w") as archive:
            for number, example in list(enumerate(examples))[shard::2]:
                contents = {
                    "jpg": example.image.read_bytes(),
                    "txt": "\n".join(example.captions).encode(),
                    "cls": str(LABELS.index(example.label)).encode(),
                }
                for suffix, content in contents.items():
                    member = tarfile.TarInfo(f"s{number:07d}.{suffix}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    (root / "classnames.txt").write_text("\n".join(LABELS) + "\n")


def write_folder(root, examples):
    root.mkdir()
    rows = []
    for example in examples:
        shutil.copy(example.image, root)
        rows.append({"file_name": example.image.name, "text": list(example.captions), "label": example.label})
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_parquet(root, examples):
    root.mkdir()
    images = [{"bytes": example.image.read_bytes(), "path": example.image.name} for example in examples]
    columns = {
        "image": pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        "caption": [list(example.captions) for example in examples],
        "label": [LABELS.index(example.label) for example in examples],
    }
    features = {"info": {"features": {"label": {"names": list(LABELS), "_type": "ClassLabel"}}}}
    table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, root / "test-00000-of-00001.parquet")


LAYOUTS = {"webdataset": write_shards, "hf_folder": write_folder, "parquet": write_parquet}


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return Shapes(samples=SAMPLES, cache_dir=str(tmp_path_factory.mktemp("cache"))).examples()


def quality(folder, *words):
    """Run the command in a folder, and return the values of its quality row."""
    done = here(folder, "run", *words, *FAST)
    assert done.returncode == 0, done.stderr
    (path,) = (folder / "outputs").rglob("results.jsonl")
    (row,) = [row for row in RunFolder.open(path.parent).results() if row.case.id == "quality"]
    return row.metrics.values


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The figures of the same images as data=shapes, by metric group."""
    data = ["data=shapes", f"data.options.samples={SAMPLES}"]
    return {
        "classification": quality(
            tmp_path_factory.mktemp("c"), "model=classifier_tiny", *data, "metrics=[latency,classification]"
        ),
        "recall": quality(tmp_path_factory.mktemp("r"), "model=clip_tiny", *data, "metrics=[latency,recall]"),
    }


@pytest.mark.parametrize(("model", "group"), [("classifier_tiny", "classification"), ("clip_tiny", "recall")])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_figures_are_those_of_the_same_images_in_another_layout(tmp_path, examples, expected, layout, model, group):
    LAYOUTS[layout](tmp_path / "mine", examples)
    values = quality(tmp_path, f"model={model}", f"data={layout}", "data.root=mine", f"metrics=[latency,{group}]")
    names = [name for name in expected[group] if name.endswith("_fraction")]
    assert len(names) > 1
    assert {name: values[name] for name in names} == pytest.approx({name: expected[group][name] for name in names})
    assert values["pictures_used_count"] == values["pictures_found_count"] == SAMPLES


def test_a_dry_run_extracts_nothing(tmp_path, examples):
    write_shards(tmp_path / "mine", examples)
    done = here(tmp_path, "run", "--dry-run", "model=clip_tiny", "data=webdataset", "data.root=mine", *FAST)
    assert done.returncode == 0, done.stderr
    assert "data=webdataset: its images are extracted and checked when the command runs" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


def test_annotations_that_no_sample_has_are_refused_with_the_reason(tmp_path, examples):
    write_shards(tmp_path / "mine", examples)
    for shard in (tmp_path / "mine" / "test").glob("*.tar"):
        with tarfile.open(shard) as archive:
            kept = [(member, archive.extractfile(member).read()) for member in archive]
        with tarfile.open(shard, "w") as archive:
            for member, content in kept:
                if not member.name.endswith(".txt"):
                    archive.addfile(member, io.BytesIO(content))
    data = ["data=webdataset", "data.root=mine"]
    done = here(tmp_path, "run", "model=clip_tiny", *data, *FAST)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "data=webdataset has no captions, which model clip_tiny reads" in done.stderr
    done = here(tmp_path, "run", "model=clip_tiny", "model.options.part=image", *data, "metrics=[recall]", *FAST)
    assert done.returncode == 2
    assert "recall: data=webdataset: it has no captions: no image has a member .txt" in done.stderr
