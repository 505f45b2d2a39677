"""Volume renderer in Triton: `render_reference` in one forward and one backward kernel.

Math and contract are those of `nerf.composite`; no sample is written to memory. The backward kernel
recomputes the samples and adds the volume's gradient with float32 atomics, so its last bits are not
deterministic. Triton is imported on first use. Axes: b scene, s source view, r ray, n sample, c feature, d
depth plane, h, w, f latent channel.
"""

import importlib.util
import sys
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from data.cameras.pinhole import Cameras, Rays
from nerf.composite import Rendering, refuse_gradients
from nerf.field import RadianceField
from nerf.fused.operators import DOT_PRECISION, WIDEST, density, render
from nerf.sampling import RaySamples
from nerf.volume import FrustumVolume


def fused_available(device: torch.device | str) -> bool:
    """Whether the kernels can run on `device`: CUDA with Triton installed, or the CPU under Triton's
    interpreter (TRITON_INTERPRET=1, very slow; for tests).
    """
    if importlib.util.find_spec("triton") is None:
        return False
    return torch.device(device).type == "cuda" or _interpreted()


def channels_last(volume: FrustumVolume) -> FrustumVolume:
    """Convert the volume to channels last, as the kernels read it.

    The kernels do this themselves; doing it beforehand saves work over several calls.
    """
    features = volume.features.permute(0, 1, 3, 4, 5, 2).contiguous()
    return replace(volume, features=features.permute(0, 1, 5, 2, 3, 4))


def render_fused(volume: FrustumVolume, field: RadianceField, rays: Rays, samples: RaySamples) -> Rendering:
    """Render rays through a volume at given samples, as `render_reference` does, in float32.

    The volume may be float32, bfloat16 or float16. First-order gradients of its features and the field's
    parameters are supported. Samples behind an optical thickness of 24 (transmittance 4e-11) are skipped.
    Raises ValueError if the kernels cannot run, or if other tensors require gradients.
    """
    _check(volume, field, rays, samples)
    latent, depth, opacity = render(*_arguments(volume, field, rays, samples))
    return Rendering(latent, depth, opacity)


def fused_density(
    volume: FrustumVolume, field: RadianceField, rays: Rays, samples: RaySamples
) -> Float[Tensor, "b r n"]:
    """Evaluate the density at the samples, without gradient, for importance sampling.

    Behind an optical thickness of 24, densities are left at zero.
    """
    _check(volume, field, rays, samples)
    with torch.no_grad():
        return density(*_arguments(volume, field, rays, samples))


def _arguments(volume: FrustumVolume, field: RadianceField, rays: Rays, samples: RaySamples) -> list[Any]:
    """Return the operators' arguments in order: contiguous tensors, then settings of the field and volume."""
    config = field.config
    tensors = (
        _frusta(volume),
        rays.origins,
        rays.directions,
        rays.cosine,
        samples.distance,
        samples.width,
        field.hidden.weight,
        field.hidden.bias,
        field.output.weight,
        field.output.bias,
    )
    return [
        volume.features.permute(0, 1, 3, 4, 5, 2).contiguous(),
        *(tensor.float().contiguous() for tensor in tensors),
        config.density_scale,
        config.pool == "after",
        config.outside == "mask",
        volume.align_corners,
    ]


def _frusta(volume: FrustumVolume) -> Float[Tensor, "b s 21"]:
    """Pack each source: position, rotation (row-major), two rows of intrinsics, near, far, and validity."""
    cameras: Cameras = volume.cameras
    parts = [
        cameras.positions,
        cameras.cam_to_world[..., :3, :3].flatten(-2),
        cameras.intrinsics[..., :2, :].flatten(-2),
        torch.stack([cameras.near, cameras.far, volume.valid.to(cameras.near)], dim=-1),
    ]
    return torch.cat(parts, dim=-1)


def _check(volume: FrustumVolume, field: RadianceField, rays: Rays, samples: RaySamples) -> None:
    features = volume.features
    remedy = "use model.renderer.backend=reference"
    # torch.compile cannot trace this check; it was done when the backend was chosen.
    if not torch.compiler.is_compiling() and not fused_available(features.device):
        raise ValueError(
            f"model.renderer.backend: fused kernels need CUDA and Triton, not {features.device}; {remedy}"
        )
    if features.dtype not in DOT_PRECISION:
        raise ValueError(
            f"model.renderer.backend: fused kernels do not support volumes of {features.dtype}; {remedy}"
        )
    widest = max(features.shape[2], field.output.out_features - 1)
    if widest > WIDEST:
        raise ValueError(
            f"model.renderer.backend: fused kernels support {WIDEST} channels, not {widest}; {remedy}"
        )
    refuse_gradients(volume, rays, samples)


def _interpreted() -> bool:
    """Whether Triton interprets its kernels on the CPU."""
    loaded = sys.modules.get("nerf.fused.kernels")
    if loaded is not None:
        return type(loaded.render_kernel).__name__ == "InterpretedFunction"
    from triton import knobs

    return knobs.runtime.interpret
