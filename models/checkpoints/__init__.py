"""Checkpoints: the formats that can be opened, and how weights are transferred.

`loading` opens a checkpoint of any format: `opened_file` opens the file, the table in `formats` chooses who
reads it. `format` is this project's own format; `transfer` copies the weights that fit into another model.
"""
