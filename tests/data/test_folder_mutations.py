"""A folder of classes spoilt at random: every picture keeps its class, or a fault or a flag says what happened."""

import os
import shutil
import tempfile
import unicodedata
from pathlib import Path
from types import SimpleNamespace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from visionbench.core import Case
from visionbench.data.image_folder import ImageFolder
from visionbench.examples.labelling import resolve_labelling
from visionbench.metrics.classification import Classification
from visionbench.parts import Parts
from visionbench.registry import ConfigError

OWN = ["ring and ring", "ring and square", "café noir", "T-shirt, jersey", "square and star"]
"""The classes of the model; in the data the fourth is called by its first name alone."""
NAMES = [name.partition(",")[0] for name in OWN]
PICTURES = 3
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
MODEL = SimpleNamespace(labels=lambda model: OWN)
CASE = Case("quality", 1, ("evaluation",), ("classification",))


# ------------------------------------------------------------------------------------------------------------ mutations
def folder_of(root, at):
    """The folder of the class at this place in the sorted list, whatever it is called by now; None where none is."""
    visible = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith((".", "_", "@"))]
    return visible[at % len(visible)] if visible else None


def respell(root, at, how):
    if path := folder_of(root, at):
        new = path.with_name(SPELLINGS[how](path.name))
        if not new.exists():
            path.rename(new)


def double(root, at, how):
    """A second folder of the same class by another spelling, with nothing in it."""
    if path := folder_of(root, at):
        path.with_name(SPELLINGS[how](path.name)).mkdir(exist_ok=True)


def hide(root, at, how):
    """What a program leaves behind: a folder with a copy of a picture."""
    name = {"capitals": "__MACOSX", "wide": "@eaDir"}.get(how, ".ipynb_checkpoints")
    path = folder_of(root, at)
    place = (root if how != "blanks" or path is None else path) / name
    place.mkdir(exist_ok=True)
    (place / "copy.jpg").write_bytes(b"left behind")


def litter(root, at, how):
    if path := folder_of(root, at):
        name = {"capitals": "Thumbs.db", "wide": "._0.jpg", "blanks": "notes.txt"}.get(how, ".DS_Store")
        (path / name).write_bytes(b"no picture")


def rename_ending(root, at, how):
    if (path := folder_of(root, at)) and (pictures := sorted(path.glob("*.jpg"))):
        ending = {"capitals": ".JPEG", "wide": ".heic", "blanks": ".jpg_large", "decomposed": ".webp"}.get(how, ".jfif")
        pictures[0].rename(pictures[0].with_suffix(ending))


def stray(root, at, how):
    """A picture lies beside the folders of classes."""
    if (path := folder_of(root, at)) and (pictures := sorted(path.glob("*.jpg"))):
        pictures[0].rename(root / f"stray-{at}-{pictures[0].name}")


def deepen(root, at, how):
    """A picture lies deeper in the folder of its class."""
    if (path := folder_of(root, at)) and (pictures := sorted(path.glob("*.jpg"))):
        (path / "more").mkdir(exist_ok=True)
        pictures[0].rename(path / "more" / pictures[0].name)


def link(root, at, how):
    """The folder of a class is a link: out of the root, within it, back to it, or to nothing."""
    path = folder_of(root, at)
    if path is None or path.is_symlink():
        return
    outside = root.parent / f"outside-{at}"
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


def foreign(root, at, how):
    """A folder of a class that the model does not know."""
    place = root / "something else"
    place.mkdir(exist_ok=True)
    (place / "0.jpg").write_bytes(b"of another class")


MUTATIONS = [respell, double, hide, litter, rename_ending, stray, deepen, link, foreign]


def numbered(root, padded):
    """Every folder is called by the index of its class."""
    for at, name in enumerate(NAMES):
        (root / name).rename(root / (f"{at:02d}" if padded else str(at)))


# ------------------------------------------------------------------------------------------------------------- the test
def clean(root):
    """A folder of classes; what each picture holds says its class."""
    for at, name in enumerate(NAMES):
        (root / name).mkdir(parents=True)
        for picture in range(PICTURES):
            (root / name / f"{picture}.jpg").write_bytes(f"{at} {picture}".encode())


def read(root, **options):
    """By what a picture holds its class for the model; and the faults and flags that say what is not so."""
    data = ImageFolder(str(root), **options)
    config = SimpleNamespace(
        data=SimpleNamespace(name="image_folder", on_error="skip"), model=SimpleNamespace(name="own")
    )
    examples = data.examples()
    meant = resolve_labelling(config, Parts(MODEL, None, data, {"classification": Classification()}), [CASE])
    faults = {**meant.find_problems(examples), **{example.id: example.faults for example in examples if example.faults}}
    used = meant.relabel([example for example in examples if example.id not in faults])
    return {example.image.read_bytes(): example.label for example in used}, faults, {**meant.flags, **data.doubts()}


CLEAN = {f"{at} {picture}".encode(): name for at, name in enumerate(OWN) for picture in range(PICTURES)}
STEPS = st.lists(
    st.tuples(st.sampled_from(MUTATIONS), st.integers(0, len(NAMES) - 1), st.sampled_from(sorted(SPELLINGS))),
    min_size=0,
    max_size=5,
)


@settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS, follow_links=st.booleans(), numbers=st.sampled_from([None, None, None, False, True]))
def test_a_spoilt_folder_gives_every_picture_its_class_or_says_what_happened(steps, follow_links, numbers):
    base = Path(tempfile.mkdtemp())
    try:
        root = base / "pictures"
        clean(root)
        if numbers is not None:
            numbered(root, numbers)
        for mutate, at, how in steps:
            mutate(root, at, how)
        try:
            labels, faults, flags = read(root, follow_links=follow_links)
        except ConfigError as error:
            assert "\n" not in str(error) and len(str(error)) < 1200
            return
        assert labels.items() <= CLEAN.items(), "a picture has another class, or is none of the data's"
        assert labels == CLEAN or faults or flags, "pictures are missing without a word"
        assert numbers is None or flags, "an index is taken for a class without a word"
    finally:
        shutil.rmtree(base)


def test_the_clean_folder_raises_no_doubt(tmp_path):
    clean(tmp_path / "pictures")
    assert read(tmp_path / "pictures") == (CLEAN, {}, {})


def test_every_mutation_changes_the_folder(tmp_path):
    for mutate in MUTATIONS:
        changed = set()
        for how in sorted(SPELLINGS):
            root = tmp_path / f"{mutate.__name__} {how}" / "pictures"
            clean(root)
            before = sorted(os.walk(root))
            mutate(root, 0, how)
            changed |= {how} if sorted(os.walk(root)) != before else set()
        assert len(changed) >= len(SPELLINGS) - 4, mutate
