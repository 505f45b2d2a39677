"""Names of conditioning policies and orders of sampling, for command lines that must not import torch."""

PUBLISHED, NEAREST, ALL, BUDGET = POLICIES = ("published", "nearest", "all", "budget")
PATH, OUTWARD = ORDERS = ("path", "outward")
