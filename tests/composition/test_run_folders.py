"""Two jobs of a sweep never have one folder; the refusal shows a pattern that gives each job another folder."""

from pathlib import Path

import pytest

from visionbench.composition.run_folders import refuse_shared_folders
from visionbench.core import ConfigError


@pytest.mark.parametrize(
    ("names", "pattern", "message"),
    [
        (
            ["a", "a"],
            "${model.name}",
            "hydra.sweep.subdir=${model.name}: jobs 0 and 1 have the same folder 'a'; add the number of the job: "
            "hydra.sweep.subdir='${hydra.job.num}_${model.name}'",
        ),
        (["a", "b", "x/../a"], "x", "hydra.sweep.subdir=x: jobs 0 and 2 have the same folder 'a'"),
        (["", ""], "", "hydra.sweep.subdir=: jobs 0 and 1 have the same folder"),
        (["a", "a/b"], "x", "hydra.sweep.subdir=x: the folder of job 1 is inside the folder of job 0"),
        (["a/b/c", "a"], "x", "hydra.sweep.subdir=x: the folder of job 0 is inside the folder of job 1"),
    ],
)
def test_jobs_with_a_shared_folder_are_refused(names, pattern, message):
    with pytest.raises(ConfigError) as caught:
        refuse_shared_folders([Path("/out/sweep") / name for name in names], pattern)
    assert str(caught.value).startswith(message)


def test_folders_of_their_own_are_accepted():
    refuse_shared_folders([Path("/out/sweep") / name for name in ("a", "b", "ab", "c/d", "c/e")], "x")
