"""Compile the fused kernels for GPUs that need not be here; one line of figures for each, as JSON.

A program of its own, because a process that interprets kernels cannot compile them. Arguments: kernels as
NAME:CAPABILITY:TYPE, for example backward:90:fp32.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from triton import compile as build
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from nerf.fused import kernels as fused_kernels
from nerf.fused import operators as fused_operators

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
FULL_SIZE = {"C": 16, "D": 64, "H": 128, "W": 128, "HIDDEN": 64, "LATENT": 16}
COUNTS = ("num_source", "num_rays", "num_samples", "source_size")


def compiled(name: str, capability: int, stored: str, **changes):
    """One kernel at full size, for volumes `stored` as fp32 or bf16."""
    kernel = fused_kernels.backward_kernel if name == "backward" else fused_kernels.render_kernel
    size = FULL_SIZE | changes
    cut = asdict(fused_operators.tiles(size["C"], size["HIDDEN"], size["LATENT"]))
    warps = cut.pop("num_warps")
    constants = size | cut | {"POOL_AFTER": False, "MASK": True, "ALIGN": False, "WIDE": False}
    constants["PRECISION"] = fused_operators.DOT_PRECISION[TYPES[stored]]
    constants |= (
        {"SCATTER": True, "COPIES": fused_operators.COPIES}
        if name == "backward"
        else {"DENSITY_ONLY": name == "density"}
    )
    kinds = dict.fromkeys(kernel.arg_names, "*fp32") | dict.fromkeys(COUNTS, "i32")
    kinds |= {"features": f"*{stored}", "density_scale": "fp32"} | dict.fromkeys(constants, "constexpr")
    places = {name: (place,) for place, name in enumerate(kernel.arg_names)}
    aligned = [name for name, kind in kinds.items() if kind.startswith("*") or name in COUNTS[1:]]
    source = ASTSource(
        fn=kernel,
        signature=kinds,
        constexprs={places[name]: value for name, value in constants.items()},
        attrs={places[name]: [["tt.divisibility", 16]] for name in aligned},
    )
    options = {"num_warps": warps, "enable_fp_fusion": True}
    return build(source, target=GPUTarget("cuda", capability, 32), options=options)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        name, capability, stored = argument.split(":")
        made = compiled(name, int(capability), stored)
        figures = {"kernel": argument, "shared": made.metadata.shared, "bytes": len(made.asm["cubin"])}
        print(json.dumps(figures | {"tensor_cores": "mma" in made.asm["ptx"]}))
