"""Files are written completely or not at all, also on a full disk."""

import errno
import os

import pytest

from visionbench.records import atomic


@pytest.fixture
def full_disk(monkeypatch):
    """Let every flush to disk fail, as on a full disk. The bytes before it may be in the file."""

    def fail(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)


def test_a_written_file_has_the_content_and_no_draft_remains(tmp_path):
    atomic.write(tmp_path / "run.json", "±1\n")
    atomic.write(tmp_path / "run.json", b"\x00new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"run.json": b"\x00new"}


def test_a_file_that_cannot_be_written_stays_as_it_was_and_the_error_names_it(tmp_path, full_disk):
    path = tmp_path / "run.json"
    path.write_text("before")
    with pytest.raises(OSError) as raised:
        atomic.write(path, "after")
    assert (raised.value.filename, raised.value.errno) == (str(path), errno.ENOSPC)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"run.json": "before"}


def test_a_new_file_that_cannot_be_written_does_not_exist(tmp_path, full_disk):
    with pytest.raises(OSError):
        atomic.write(tmp_path / "samples.parquet", b"content")
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_an_error_that_names_the_file(tmp_path):
    with pytest.raises(FileNotFoundError) as raised:
        atomic.write(tmp_path / "missing" / "run.json", "text")
    assert raised.value.filename == str(tmp_path / "missing" / "run.json")


def test_the_target_of_a_symbolic_link_is_replaced_and_the_link_stays(tmp_path):
    (tmp_path / "target").write_text("before")
    link = tmp_path / "link"
    link.symlink_to("target")
    atomic.write(link, "after")
    assert link.is_symlink() and (tmp_path / "target").read_text() == "after"


def test_a_pipe_is_written_directly(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    atomic.write(pipe, "text")
    assert os.read(reader, 100) == b"text"
    os.close(reader)


def test_a_new_file_has_the_permissions_of_the_umask(tmp_path):
    (tmp_path / "by_open").touch()
    atomic.write(tmp_path / "by_write", "")
    assert (tmp_path / "by_write").stat().st_mode == (tmp_path / "by_open").stat().st_mode


def test_lines_are_appended(tmp_path):
    path = tmp_path / "results.jsonl"
    for line in ("{}", '{"a": "±"}'):
        atomic.append_line(path, line)
    assert path.read_text("utf-8") == '{}\n{"a": "±"}\n'


def test_a_line_that_cannot_be_written_leaves_the_earlier_lines(tmp_path, full_disk):
    path = tmp_path / "results.jsonl"
    path.write_text("first\n")
    with pytest.raises(OSError) as raised:
        atomic.append_line(path, "second")
    assert raised.value.filename == str(path)
    assert path.read_text() == "first\n"


@pytest.mark.parametrize("torn", ["", "torn", "x" * 200_000])
def test_a_torn_last_line_is_removed_before_a_line_is_appended(tmp_path, torn):
    path = tmp_path / "results.jsonl"
    path.write_text(f"first\n{torn}")
    atomic.append_line(path, "second")
    assert path.read_text() == "first\nsecond\n"
    path.write_text(torn)
    atomic.append_line(path, "second")
    assert path.read_text() == "second\n"
