"""What can be wrong with a data set, and how to find it.

`opening` opens the splits, `reading` makes a `Subject` of each object, `objects` runs the checks of one and
keeps a small `Summary`, `between` compares the summaries, `report` and `drawings` show what was found.
"""
