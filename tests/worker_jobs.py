"""Generators for test_worker.py, importable by a fresh process."""

import os
import signal
import sys

from visionbench.registry import ConfigError


def count(n):
    print("said on stdout")
    os.system("echo said by a child of the child")
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
