"""Composing the jobs of a sweep in less time. Hydra reads and merges all files again for each job, and does so twice.

Most jobs of a sweep choose the same options and differ only in values. So the files of one choice of options are read
and merged once, and each job gets a copy, into which Hydra sets the values of the job.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.defaults_list import DefaultsList, Overrides, create_defaults_list
from hydra.core.override_parser.types import Override
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig


@contextmanager
def merged_once() -> Iterator[None]:
    """Let Hydra merge the files of each choice of options once, and compose each job once, while the context is open.

    The files must not change meanwhile.
    """
    lists: dict[Any, DefaultsList] = {}
    merged: dict[Any, DictConfig] = {}
    unchanged_sources: set[Any] = set()
    add_sources = ConfigLoaderImpl._process_config_searchpath
    merge, validate = ConfigLoaderImpl._compose_config_from_defaults_list, Sweeper.validate_batch_is_legal

    def add_sources_once(self: ConfigLoaderImpl, config_name: Any, parsed_overrides: list[Override], repo: Any) -> None:
        given = [each.input_line for each in parsed_overrides if each.get_key_element() == "hydra.searchpath"]
        key = repr((_sources(repo), config_name, given))
        if key not in unchanged_sources:
            before = _sources(repo)
            add_sources(self, config_name, parsed_overrides, repo)
            if _sources(repo) == before:
                unchanged_sources.add(key)

    def create_once(repo: Any, config_name: Any, overrides_list: list[Override], **options: Any) -> DefaultsList:
        values = Overrides(repo=repo, overrides_list=overrides_list).config_overrides
        choices = [override.input_line for override in overrides_list if not _is_in(override, values)]
        key = repr((_sources(repo), config_name, choices, options))
        if key not in lists:
            lists[key] = create_defaults_list(
                repo=repo, config_name=config_name, overrides_list=overrides_list, **options
            )
        return replace(lists[key], config_overrides=values)

    def merge_once(self: ConfigLoaderImpl, defaults: Any, repo: Any) -> DictConfig:
        key = repr((_sources(repo), defaults))
        if key not in merged:
            merged[key] = merge(self, defaults=defaults, repo=repo)
        return copy.deepcopy(merged[key])

    def validate_once(self: Sweeper, batch: Sequence[Sequence[str]]) -> None:
        if not getattr(self.launcher, "composes_all_first", False):
            validate(self, batch)

    with (
        patch.object(ConfigLoaderImpl, "_process_config_searchpath", add_sources_once),
        patch.object(config_loader_impl, "create_defaults_list", create_once),
        patch.object(ConfigLoaderImpl, "_compose_config_from_defaults_list", merge_once),
        patch.object(Sweeper, "validate_batch_is_legal", validate_once),
    ):
        yield


def _sources(repo: Any) -> list[tuple[str, str]]:
    return [(str(source.provider), str(source.path)) for source in repo.get_sources()]


def _is_in(override: Override, overrides: Sequence[Override]) -> bool:
    return any(override is one for one in overrides)
