"""Advice from results: which case to choose, which batch size is the knee, and what a precision costs and gains.

    candidates.py   the cases of a task that can be chosen, and the reason for each case that is left out
    choice.py       the recommended case, the knee of each run, and what each latency bound allows
    precisions.py   each precision against fp32: the ratio of throughput and the difference in quality
    commands.py     the commands that would make the advice firmer

These modules only decide. `report/advice.py` words the decisions for the terminal and for the report.
"""
