"""Continue a sweep: measure only the cases that have no valid result, into the folders of the sweep.

choices    the words of `retry` and `on_change`
earlier    the sweep that is continued: its folder, its command and its runs
matching   which planned run continues which earlier run, and which cases are measured
conditions the identity of a planned run under the present conditions, before anything is measured
folders    the changes to the files of earlier runs before a session
"""
