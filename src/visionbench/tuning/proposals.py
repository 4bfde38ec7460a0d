"""Optuna's part of a search: which configuration is tried next. The study is a journal file, so that it can continue.

The precisions and runtimes are proposed first, each pair once with default values of the other parts. Optuna's TPE
sampler then proposes configurations by their results so far.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionbench.core import ConfigError
from visionbench.tuning.space import Combination, Space

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import Trial

FILE = "study.journal"
NAME = "tune"
MOST_REPEATS = 4
"""The proposals of configurations that were tried already, after which the next untried one is chosen."""
CONFIGURATION = "precision/runtime"
"""The parameter of Optuna for the pair, because not each precision is possible in each runtime."""


def require_optuna() -> None:
    """Raise ConfigError if Optuna is not installed."""
    if find_spec("optuna") is None:
        raise ConfigError("tune: optuna is not installed", "pip install 'visionbench[tune]'")


@dataclass(frozen=True)
class Proposal:
    """A configuration that Optuna proposes."""

    combination: Combination
    trial: Trial


@dataclass(frozen=True)
class Proposals:
    """A study of Optuna over the configurations of a space."""

    space: Space
    study: Study

    @classmethod
    def open(cls, folder: Path | None, space: Space, seed: int) -> Proposals:
        """Open the study in a folder, or start one. Without a folder, the study is in memory."""
        require_optuna()
        import optuna
        from optuna.storages import InMemoryStorage, JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(logging.ERROR)
        pairs = len({one.pair for one in space.combinations})
        journal = None if folder is None else JournalFileBackend(str(folder / FILE))
        storage = InMemoryStorage() if journal is None else JournalStorage(journal)
        known = optuna.get_all_study_names(storage)
        study = optuna.create_study(
            storage=storage,
            study_name=NAME,
            direction="maximize",
            load_if_exists=True,
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=pairs, multivariate=True),
        )
        proposals = cls(space, study)
        if NAME not in known:
            for combination in proposals._first_of_pairs():
                study.enqueue_trial(proposals._parameters(combination))
        proposals._repeat_interrupted()
        return proposals

    def next(self, scores: Mapping[Combination, float | None]) -> Proposal | None:
        """Return the next configuration, or None if each was tried. `scores` has those that were tried."""
        from optuna.trial import TrialState

        untried = [one for one in self.space.combinations if one not in scores]
        if not untried:
            return None
        for _ in range(MOST_REPEATS):
            trial = self.study.ask(self._distributions())
            combination = self._combination(trial.params)
            if combination in untried:
                return Proposal(combination, trial)
            score = scores.get(combination)
            if score is None:
                self.study.tell(trial, state=TrialState.PRUNED)
            else:
                self.study.tell(trial, score)
        self.study.enqueue_trial(self._parameters(untried[0]))
        return Proposal(untried[0], self.study.ask(self._distributions()))

    def tell(self, proposal: Proposal, score: float | None, steps: Sequence[tuple[int, float]], reason: str) -> None:
        """Store the result: the best score that holds the bounds, or None, and the score of each batch size."""
        from optuna.trial import TrialState

        for size, value in steps:
            proposal.trial.report(value, step=size)
        proposal.trial.set_user_attr("reason", reason)
        if score is None:
            self.study.tell(proposal.trial, state=TrialState.PRUNED)
        else:
            self.study.tell(proposal.trial, score)

    def _first_of_pairs(self) -> list[Combination]:
        """Return the first configuration of each precision and runtime."""
        first: dict[tuple[str, str], Combination] = {}
        for combination in self.space.combinations:
            first.setdefault(combination.pair, combination)
        return list(first.values())

    def _repeat_interrupted(self) -> None:
        """Propose the configurations again whose measurement was interrupted."""
        from optuna.trial import TrialState

        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.study.tell(trial.number, state=TrialState.FAIL)
            self.study.enqueue_trial(dict(trial.params))

    def _distributions(self) -> dict[str, Any]:
        from optuna.distributions import CategoricalDistribution

        pairs = ["/".join(pair) for pair in dict.fromkeys(one.pair for one in self.space.combinations)]
        fixed = ("precision", "runtime")
        others = {name: values for name, values in self.space.dimensions.items() if name not in fixed}
        choices = {CONFIGURATION: pairs, **others}
        return {name: CategoricalDistribution(tuple(values)) for name, values in choices.items()}

    def _parameters(self, combination: Combination) -> dict[str, str]:
        others = {name: value for name, value in combination.values.items() if name not in ("precision", "runtime")}
        return {CONFIGURATION: "/".join(combination.pair), **others}

    def _combination(self, parameters: Mapping[str, Any]) -> Combination:
        values = {name: str(value) for name, value in parameters.items() if name != CONFIGURATION}
        precision, _, runtime = str(parameters[CONFIGURATION]).partition("/")
        return Combination(precision, runtime, **values)
