"""A folder of classes damaged at random: every image keeps its class, or a problem or a flag reports the change."""

import os
import shutil
import tempfile
import unicodedata
from pathlib import Path
from types import SimpleNamespace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from visionbench.core import Case, ConfigError
from visionbench.data.image_folder import ImageFolder
from visionbench.examples.labelling import resolve_labelling
from visionbench.metrics.classification import Classification
from visionbench.parts import Parts

OWN = ["ring and ring", "ring and square", "café noir", "T-shirt, jersey", "square and star"]
"""The classes of the model. In the data, the fourth has only its first name."""
NAMES = [name.partition(",")[0] for name in OWN]
IMAGES = 3
SPELLINGS = {
    "underscores": lambda name: name.replace(" ", "_"),
    "hyphens": lambda name: name.replace(" ", "-"),
    "capitals": str.upper,
    "decomposed": lambda name: unicodedata.normalize("NFD", name),
    "wide": lambda name: name.replace("r", "\uff52"),
    "no-break": lambda name: name.replace(" ", "\u00a0"),
    "blanks": lambda name: f" {name}  ",
    "synonym": lambda name: "Jersey" if name.startswith("T") else name,
}
MODEL = SimpleNamespace(class_names=lambda model: OWN)
CASE = Case("quality", 1, ("evaluation",), ("classification",))


# ------------------------------------------------------------------------------------------------------------ mutations
def folder_of(root, index):
    """The folder at this index of the sorted folders of classes, or None if there are none."""
    visible = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith((".", "_", "@"))]
    return visible[index % len(visible)] if visible else None


def respell(root, index, how):
    if path := folder_of(root, index):
        new = path.with_name(SPELLINGS[how](path.name))
        if not new.exists():
            path.rename(new)


def double(root, index, how):
    """Add an empty folder with another spelling of the same class."""
    if path := folder_of(root, index):
        path.with_name(SPELLINGS[how](path.name)).mkdir(exist_ok=True)


def hide(root, index, how):
    """Add a folder that a program leaves behind, with a copy of an image."""
    name = {"capitals": "__MACOSX", "wide": "@eaDir"}.get(how, ".ipynb_checkpoints")
    path = folder_of(root, index)
    place = (root if how != "blanks" or path is None else path) / name
    place.mkdir(exist_ok=True)
    (place / "copy.jpg").write_bytes(b"left behind")


def litter(root, index, how):
    if path := folder_of(root, index):
        name = {"capitals": "Thumbs.db", "wide": "._0.jpg", "blanks": "notes.txt"}.get(how, ".DS_Store")
        (path / name).write_bytes(b"not an image")


def rename_suffix(root, index, how):
    if (path := folder_of(root, index)) and (images := sorted(path.glob("*.jpg"))):
        suffix = {"capitals": ".JPEG", "wide": ".heic", "blanks": ".jpg_large", "decomposed": ".webp"}.get(how, ".jfif")
        images[0].rename(images[0].with_suffix(suffix))


def stray(root, index, how):
    """Move an image beside the folders of classes."""
    if (path := folder_of(root, index)) and (images := sorted(path.glob("*.jpg"))):
        images[0].rename(root / f"stray-{index}-{images[0].name}")


def deepen(root, index, how):
    """Move an image into a subfolder of its class."""
    if (path := folder_of(root, index)) and (images := sorted(path.glob("*.jpg"))):
        (path / "more").mkdir(exist_ok=True)
        images[0].rename(path / "more" / images[0].name)


def link(root, index, how):
    """Replace the folder of a class by a link, or add a link to a parent or a broken link."""
    path = folder_of(root, index)
    if path is None or path.is_symlink():
        return
    outside = root.parent / f"outside-{index}"
    if how in ("capitals", "wide"):
        if not outside.exists():
            path.rename(outside)
            path.symlink_to(outside)
    elif how == "blanks":
        path.with_name("loop").symlink_to(root) if not (root / "loop").is_symlink() else None
    elif how == "decomposed":
        (path / "nothing.jpg").unlink(missing_ok=True)
        (path / "nothing.jpg").symlink_to(outside / "nowhere.jpg")
    else:
        hidden = root / ".store"
        hidden.mkdir(exist_ok=True)
        if not (hidden / path.name).exists():
            path.rename(hidden / path.name)
            path.symlink_to(hidden / path.name)


def foreign(root, index, how):
    """Add a folder of a class that the model does not have."""
    place = root / "something else"
    place.mkdir(exist_ok=True)
    (place / "0.jpg").write_bytes(b"of another class")


MUTATIONS = [respell, double, hide, litter, rename_suffix, stray, deepen, link, foreign]


def number_folders(root, padded):
    """Rename every folder to the index of its class."""
    for index, name in enumerate(NAMES):
        (root / name).rename(root / (f"{index:02d}" if padded else str(index)))


# ------------------------------------------------------------------------------------------------------------- the test
def write_clean(root):
    """Write a folder of classes. The content of each image identifies its class."""
    for index, name in enumerate(NAMES):
        (root / name).mkdir(parents=True)
        for image in range(IMAGES):
            (root / name / f"{image}.jpg").write_bytes(f"{index} {image}".encode())


def read(root, **options):
    """Return the model's class by the content of an image, the problems and the flags."""
    data = ImageFolder(str(root), **options)
    config = SimpleNamespace(
        data=SimpleNamespace(name="image_folder", on_error="skip"), model=SimpleNamespace(name="own")
    )
    examples = data.examples()
    labelling = resolve_labelling(config, Parts(MODEL, None, data, {"classification": Classification()}), [CASE])
    problems = {
        **labelling.find_problems(examples),
        **{example.id: example.problems for example in examples if example.problems},
    }
    used = labelling.relabel([example for example in examples if example.id not in problems])
    return (
        {example.image.read_bytes(): example.label for example in used},
        problems,
        {**labelling.flags, **data.warnings()},
    )


CLEAN = {f"{index} {image}".encode(): name for index, name in enumerate(OWN) for image in range(IMAGES)}
STEPS = st.lists(
    st.tuples(st.sampled_from(MUTATIONS), st.integers(0, len(NAMES) - 1), st.sampled_from(sorted(SPELLINGS))),
    min_size=0,
    max_size=5,
)


@settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS, follow_links=st.booleans(), numbers=st.sampled_from([None, None, None, False, True]))
def test_a_damaged_folder_gives_every_image_its_class_or_reports_the_change(steps, follow_links, numbers):
    base = Path(tempfile.mkdtemp())
    try:
        root = base / "images"
        write_clean(root)
        if numbers is not None:
            number_folders(root, numbers)
        for mutate, index, how in steps:
            mutate(root, index, how)
        try:
            labels, problems, flags = read(root, follow_links=follow_links)
        except ConfigError as error:
            assert "\n" not in str(error) and len(str(error)) < 1200
            return
        assert labels.items() <= CLEAN.items(), "an image has another class, or is not in the data"
        assert labels == CLEAN or problems or flags, "missing images are not reported"
        assert numbers is None or flags, "the use of indices as classes is not reported"
    finally:
        shutil.rmtree(base)


def test_the_clean_folder_has_no_problem_and_no_flag(tmp_path):
    write_clean(tmp_path / "images")
    assert read(tmp_path / "images") == (CLEAN, {}, {})


def test_every_mutation_changes_the_folder(tmp_path):
    for mutate in MUTATIONS:
        changed = set()
        for how in sorted(SPELLINGS):
            root = tmp_path / f"{mutate.__name__} {how}" / "images"
            write_clean(root)
            before = sorted(os.walk(root))
            mutate(root, 0, how)
            changed |= {how} if sorted(os.walk(root)) != before else set()
        assert len(changed) >= len(SPELLINGS) - 4, mutate
