"""Generators and functions that tests run in a fresh process, which must be able to import them."""

import gc
import os
import pickle
import signal
import struct
import sys
from multiprocessing.connection import Connection
from types import SimpleNamespace

from visionbench.core import ConfigError
from visionbench.data.shapes import Shapes


def digest_of_shapes(cache_dir):
    """Return the number of examples and their digest."""
    data = Shapes(samples=40, cache_dir=cache_dir)
    return len(data.examples()), data.identity()["annotations_sha256"]


def count(n):
    print("printed on stdout")
    os.system("echo printed by a child of the child")
    yield from range(n)


def raises():
    yield 1
    raise ValueError("the second item cannot be had")


def refuses():
    yield 1
    raise ConfigError("model.options.part=imge: no such part")


def dies(how):
    yield os.getpid()
    if how == "exit":
        sys.exit(7)
    os.kill(os.getpid(), getattr(signal, how))


def raises_error(error):
    """Raise an error of any kind, also one that is not an Exception."""
    yield 1
    raise error


def sends_what_cannot_be_pickled():
    yield 1
    yield lambda: None


class Unreadable:
    """An object whose pickle ends early when it is read."""

    def __reduce__(self):
        return pickle.loads, (pickle.dumps([1, 2, 3])[:-5],)


def sends_what_cannot_be_read():
    yield 1
    yield Unreadable()
    signal.pause()


def dies_within_a_message():
    """End the process after it has sent half of a message, whose length is before it."""
    yield 1
    pipe = next(item for item in gc.get_objects() if isinstance(item, Connection) and item.writable)
    os.write(pipe.fileno(), struct.pack("!i", 1000) + b"half")
    os._exit(3)


def names_its_server():
    yield os.getppid()
    yield from range(3)


def endless():
    yield os.getpid()
    signal.pause()


def never_answers():
    print(os.getpid())
    signal.pause()
    yield


def goes_on():
    yield SimpleNamespace(ahead=True)
    print("continued")
    yield 2
