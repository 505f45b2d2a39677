"""Shared code of the programs that sample: arguments, jobs, sampling, writing, reading."""
