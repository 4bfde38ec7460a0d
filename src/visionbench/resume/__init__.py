"""Continue a sweep: measure only the cases that have no valid result, into the folders of the sweep.

choices    the words of `retry` and `on_change`
earlier    the sweep that is continued: its folder, its command and its runs
matching   which planned run continues which earlier run, and which cases are measured
changes    what differs between the conditions now and those of the earlier runs
"""
