"""Checks of data sets.

`open_splits` opens the splits, `read_object` reads each object into a `Subject`, `check_object` runs the
per-object checks and keeps a small `Summary`, `cross_object` compares the summaries, and `report` and `plots`
show the findings.
"""
