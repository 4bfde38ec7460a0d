"""Generators and functions that tests run in a fresh process, which must be able to import them."""

import os
import signal
import sys
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
