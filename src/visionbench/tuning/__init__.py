"""The search of `visionbench tune` for the best configuration of a model on this machine.

    request.py    the words of the command: objective, bounds, budget, protocols
    space.py      the configurations that can be measured, and the reason for each that cannot
    objectives.py the figure that is compared, and whether the bounds are held
    proposals.py  Optuna: which configuration is tried next; a journal file keeps the study
    search.py     the search over configurations and batch sizes, with its rules for pruning
    trials.py     a configuration as an ordinary run in a fresh process
    finals.py     the finalists beside the baseline, in several processes in turns
    best.py       best.yaml, which reproduces the best configuration
    tune.py       the sequence: search, finals, result

`search.py` uses only the figures of a configuration, so that tests replace the measurement by a function.
"""
