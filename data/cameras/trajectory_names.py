"""Names of camera trajectories, for command lines that must not import torch."""

SPIRAL, CIRCLE, TURNTABLE, SRN_TEST = TRAJECTORIES = ("spiral", "circle", "turntable", "srn_test")
