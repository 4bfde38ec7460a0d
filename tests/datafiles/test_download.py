"""Downloads that are interrupted, damaged or already complete, from a server on this machine."""

import hashlib
import socket

import pytest
from file_server import FileServer

from visionbench.core import ConfigError
from visionbench.datafiles.download import Unreachable, fetch

BODY = bytes(range(256)) * 40


@pytest.fixture
def server():
    server = FileServer({"/a.zip": BODY})
    yield server
    server.stop()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "a.zip"


def part(path):
    return path.with_name("a.zip.part")


def test_a_download_leaves_only_the_complete_file(server, path):
    reported = []
    assert (
        fetch(f"{server.url}/a.zip", path, hashlib.md5(BODY).hexdigest(), lambda *done: reported.append(done)) == path
    )
    assert path.read_bytes() == BODY
    assert list(path.parent.iterdir()) == [path]
    assert reported[-1] == (len(BODY), len(BODY))


def test_an_existing_file_is_not_requested(server, path):
    path.parent.mkdir()
    path.write_bytes(b"mine")
    fetch(f"{server.url}/a.zip", path)
    assert path.read_bytes() == b"mine"
    assert server.requests == []


def test_an_interrupted_download_is_resumed(server, path):
    server.cut["/a.zip"] = 3000
    with pytest.raises(Unreachable, match=r"was lost|0\.0 MB are kept"):
        fetch(f"{server.url}/a.zip", path)
    assert part(path).read_bytes() == BODY[:3000]
    assert not path.exists()
    fetch(f"{server.url}/a.zip", path)
    assert path.read_bytes() == BODY
    assert server.requests == [("/a.zip", None), ("/a.zip", "bytes=3000-")]


def test_a_complete_part_is_checked_and_kept(server, path):
    path.parent.mkdir()
    part(path).write_bytes(BODY)
    fetch(f"{server.url}/a.zip", path, hashlib.md5(BODY).hexdigest())
    assert path.read_bytes() == BODY


def test_a_part_longer_than_the_file_is_downloaded_again(server, path):
    path.parent.mkdir()
    part(path).write_bytes(BODY + b"more")
    fetch(f"{server.url}/a.zip", path)
    assert path.read_bytes() == BODY


@pytest.mark.parametrize("md5", [hashlib.md5(BODY).hexdigest(), None])
def test_a_file_with_another_md5_is_deleted(server, path, md5):
    server.damaged.add("/a.zip")
    with pytest.raises(ConfigError, match="damaged during the download"):
        fetch(f"{server.url}/a.zip", path, md5)
    assert not path.exists() and not part(path).exists()
    assert fetch(f"{server.url}/a.zip", path, md5).read_bytes() == BODY


def test_an_etag_that_is_not_an_md5_is_ignored(server, path):
    server.etags = False
    assert fetch(f"{server.url}/a.zip", path).read_bytes() == BODY


def test_a_file_that_the_server_does_not_have_is_an_error(server, path):
    with pytest.raises(ConfigError, match=r"/b\.zip: the server answered 404 Not Found"):
        fetch(f"{server.url}/b.zip", path)
    assert not path.exists()


def test_a_server_that_is_not_running_is_an_error_of_one_line(path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Unreachable, match=r"cannot be read \(.*refused\)$"):
        fetch(f"http://127.0.0.1:{port}/a.zip", path)
