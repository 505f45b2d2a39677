"""The whole way from photos to views under the published conventions, against a literal transcription of the
published mathematics: OpenGL axes, one loop over everything, float64.
"""

import copy
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from config.run import load_config
from data.cameras.pinhole import Cameras, cameras_from_poses, opencv_to_opengl
from data.cameras.poses import look_at
from data.scenes.batch import Views
from data.seeds import normal
from diffusion.k_diffusion import k_diffusion
from diffusion.samplers import SampleOptions, karras_sigmas
from models.genvs.model import GeNVS, GeNVSConfig
from models.volumes import losses
from nerf.renderer import LatentImages
from tests.reference.conventions import CONFIG
from tests.scenes import TINY_MODEL

FOCAL = (1.05, 0.95)  # of the targets, in image widths and heights; photos have equal ones, as k demands
RAYS, SIZE, NUM_COARSE, NUM_FINE = 6, 16, 9, 7
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def published_tiny(**renderer) -> GeNVS:
    """The tiniest model with every published convention, no weight at zero, in float64."""
    document = load_config(CONFIG).model.model_dump(mode="json")
    for part in ("encoder", "renderer", "denoiser"):
        for key, value in TINY_MODEL[part].items():
            document[part][key] = document[part][key] | value if isinstance(value, dict) else value
    document["renderer"] |= {"size": RAYS, "coarse": NUM_COARSE, "fine": NUM_FINE} | renderer
    torch.manual_seed(3)
    model = GeNVS(GeNVSConfig.model_validate(document)).eval().double().requires_grad_(False)
    for parameter in model.parameters():
        if not parameter.any():
            parameter.normal_(std=0.3)
    density = model.renderer.field.output.weight[0]
    density.sub_(density.mean()).mul_(30)  # something opaque, something not
    return model


def poses(num: int, seed: int) -> Tensor:
    """Cameras round a point beside the origin, at unequal distances."""
    generator = torch.Generator().manual_seed(seed)
    eyes = F.normalize(torch.randn(num, 3, generator=generator), dim=-1)
    eyes = eyes * (
        0.9 + 0.7 * torch.rand(num, 1, generator=generator)
    )  # a volume may reach behind its camera
    return look_at(eyes.double(), torch.tensor([0.02, -0.03, 0.01]).double().expand(num, 3))


def cameras(cam_to_world: Tensor, focal: tuple[float, float]) -> Cameras:
    matrix = torch.tensor([[focal[0], 0, 0.5], [0, focal[1], 0.5], [0, 0, 1]]).double()
    found = cameras_from_poses(cam_to_world.flatten(0, 1), matrix, object_radius=1.0)
    return found.apply(lambda tensor: tensor.unflatten(0, cam_to_world.shape[:2]))


@pytest.fixture(scope="module")
def scene() -> tuple[Views, Cameras]:
    """Two scenes, with two photos and with one; three views to draw of each."""
    sources = torch.stack([poses(2, 1), poses(2, 2)])
    images = torch.rand(2, 2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5)).double() * 2 - 1
    valid = torch.tensor([[True, True], [True, False]])
    targets = torch.stack([poses(3, 3), poses(3, 4)])
    # The last one looks away from the cube altogether.
    targets[1, 2, :3, :3] = targets[1, 2, :3, :3] @ torch.diag(torch.tensor([1.0, -1.0, -1.0])).double()
    targets[1, 2, :3, 3] *= 2
    return Views(images, cameras(sources, (1.1, 1.1)), valid), cameras(targets, FOCAL)


def literal_planes(model: GeNVS, photo: Tensor) -> Tensor:
    """[c, d, h, w] with the bottom row and the far plane first."""
    x = (((photo + 1) / 2) - MEAN[:, None, None]) / STD[:, None, None]
    return model.encoder.decoder(model.encoder.backbone(x.flip(1)[None]))[0]


def literal_normalisation(first: Tensor, others: Tensor) -> Tensor:
    """OpenGL poses in the frame of the first one."""
    rotation, position = first[:3, :3], first[:3, 3]
    to_frame = torch.eye(4).double()
    to_frame[:3, :3] = rotation.T
    to_frame[:3, 3] = -rotation.T @ position
    to_frame[2, 3] += position.norm()
    return to_frame @ others


def literal_coordinates(points: Tensor, pose: Tensor, k: float) -> Tensor:
    """Where points [n, 3] lie in a volume, clamped: x, y up, z towards the camera."""
    c = (points - pose[:3, 3]) @ pose[:3, :3]
    d = pose[:3, 3].norm()
    z = c[:, 2] + d
    depth = (d - z).clamp_min(1e-6)
    return torch.stack([k * c[:, 0] / depth, k * c[:, 1] / depth, z], dim=-1).clamp(-1, 1)


def literal_field(model: GeNVS, points: Tensor, volumes: list[Tensor], sources: Tensor, k: float):
    """Density [n] and latent colours [n, f]."""
    field, outputs = model.renderer.field, []
    for volume, pose in zip(volumes, sources, strict=True):
        at = literal_coordinates(points, pose, k)[None, None, None]
        features = F.grid_sample(volume[None], at, align_corners=True)[0, :, 0, 0].T
        hidden = F.softplus(features @ field.hidden.weight.T + field.hidden.bias)
        outputs.append(hidden @ field.output.weight.T + field.output.bias)
    mean = torch.stack(outputs).mean(dim=0)
    return F.softplus(mean[:, 0]), torch.sigmoid(mean[:, 1:])


def literal_ray(model: GeNVS, origin: Tensor, direction: Tensor, *rest) -> tuple[Tensor, Tensor, Tensor]:
    """Latent [f], depth along the ray and opacity of one ray."""
    config = model.renderer.config
    low, high = (-1 - origin) / (direction + 1e-15), (1 - origin) / (direction + 1e-15)
    near, far = torch.minimum(low, high).max(), torch.maximum(low, high).min()
    if far < near:
        return torch.ones(config.latent_channels).double(), near.new_zeros(()), near.new_zeros(())
    near = near.clamp_min(0.5)
    far = torch.maximum(far, near)
    n, m = config.coarse, config.fine
    z, step = near + (far - near) * torch.linspace(0, 1, n).double(), (far - near) / n

    def weights(z: Tensor) -> tuple[Tensor, Tensor]:
        density, colour = literal_field(model, origin + z[:, None] * direction, *rest)
        alpha = 1 - torch.exp(-density * torch.cat([z.diff(), step[None]]))
        before = torch.cat([torch.ones(1).double(), torch.cumprod(1 - alpha + 1e-15, dim=0)[:-1]])
        return alpha * before, colour

    if m:
        bins, pdf = (z[1:] + z[:-1]) / 2, weights(z)[0][1:-1] + 1e-5
        cdf = torch.cat([torch.zeros(1).double(), torch.cumsum(pdf / pdf.sum(), dim=0)])
        fine = []
        for u in torch.linspace(0.5 / m, 1 - 0.5 / m, m).double():
            index = int((cdf <= u).sum())
            lo, hi = max(index - 1, 0), min(index, n - 2)
            gap = cdf[hi] - cdf[lo]
            fine.append(bins[lo] + (u - cdf[lo]) / (gap if gap >= 1e-5 else 1) * (bins[hi] - bins[lo]))
        z = torch.cat([z, torch.stack(fine)]).sort().values
    weight, colour = weights(z)
    return weight @ colour + (1 - weight.sum()), weight @ z, weight.sum()


def literal_rendering(model: GeNVS, source: Views, targets: Cameras) -> list[Tensor]:
    """Latent images [b, t, f, r, r], depth along the ray and opacity [b, t, 1, r, r]."""
    scenes = []
    for b in range(len(source.images)):
        kept = source.valid[b].nonzero().flatten().tolist()
        seen = opencv_to_opengl(source.cameras.cam_to_world[b])
        asked = literal_normalisation(seen[0], opencv_to_opengl(targets.cam_to_world[b]))
        seen = literal_normalisation(seen[0], seen[kept])
        volumes = [literal_planes(model, source.images[b, v]) for v in kept]
        views = []
        for pose in asked:
            rays = []
            for row in range(RAYS):
                for column in range(RAYS):
                    right = (column + 0.5 - RAYS / 2) / (FOCAL[0] * RAYS)
                    up = -(row + 0.5 - RAYS / 2) / (FOCAL[1] * RAYS)
                    direction = F.normalize(torch.tensor([right, up, -1.0]).double(), dim=0) @ pose[:3, :3].T
                    rays.append(literal_ray(model, pose[:3, 3], direction, volumes, seen, 2 * 1.1))
            parts = [torch.stack(part).reshape(RAYS, RAYS, -1) for part in zip(*rays, strict=True)]
            views.append([part.movedim(-1, 0) for part in parts])
        scenes.append([torch.stack(part) for part in zip(*views, strict=True)])
    return [torch.stack(part) for part in zip(*scenes, strict=True)]


def render(model: GeNVS, source: Views, targets: Cameras) -> LatentImages:
    """As everybody does, in float32."""
    single = copy.deepcopy(model).float()
    return single.render(single.encode(source.apply(as_float)), targets.apply(as_float))


def as_float(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


@pytest.mark.parametrize("fine", [NUM_FINE, 0])
def test_latent_images_are_those_of_the_transcription(scene, fine):
    model, (_, targets) = published_tiny(fine=fine), scene
    found = render(model, *scene)
    cosine = targets.rays(RAYS, RAYS).cosine.unflatten(-1, (RAYS, RAYS))[:, :, None]
    latent, depth, opacity = literal_rendering(model, *scene)
    torch.testing.assert_close(found.latent.double(), latent, atol=3e-5, rtol=1e-4)
    torch.testing.assert_close(found.depth / cosine, depth, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.opacity.double(), opacity, atol=3e-5, rtol=1e-4)
    assert opacity.min() == 0  # a ray that misses
    assert (opacity > 0.9).any()
    assert ((opacity > 0.1) & (opacity < 0.7)).any()


def test_denoised_views_and_losses_are_those_of_the_transcription(scene):
    model, (source, targets) = published_tiny(), scene
    latent, depth, opacity = literal_rendering(model, source, targets)
    truth = torch.rand(2, 3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(8)).double()
    condition = F.interpolate(latent.flatten(0, 1), size=(SIZE, SIZE), mode="nearest")

    found, single = render(model, source, targets), copy.deepcopy(model).float()
    about = single.condition(found, (SIZE, SIZE))
    torch.testing.assert_close(about.flatten(0, 1).double(), condition, atol=3e-5, rtol=1e-4)

    rgb = (condition[:, :3] - truth.flatten(0, 1)).square().mean()
    torch.testing.assert_close(losses.rgb(about.double(), 2 * truth - 1), rgb, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(losses.opacity(found).double(), opacity.mean(), atol=1e-5, rtol=1e-4)
    camera_d = targets.positions.norm(dim=-1)[:, :, None, None, None]
    prior = (opacity * (depth / (opacity + 1e-6) - camera_d).square()).mean()
    ours = losses.depth_prior(found, targets.apply(as_float), along="ray")
    torch.testing.assert_close(ours.double(), prior, atol=1e-5, rtol=1e-4)

    wrapper = k_diffusion().layers.DenoiserWithVariance(single.denoiser.inner_model, 0.5)
    options = SampleOptions(sampler="euler", steps=3, sigma_min=0.03, sigma_max=50)
    seeds, sigmas = torch.arange(6).reshape(2, 3), karras_sigmas(options)
    x = sigmas[0] * normal(seeds.flatten(), (3, SIZE, SIZE), stream="initial")
    for sigma, following in pairwise(sigmas):
        denoised = wrapper(x, sigma.expand(6), unet_cond=condition.float(), mapping_cond=torch.zeros(6, 9))
        x = x + (x - denoised) / sigma * (following - sigma)
    images = single.sample(source.apply(as_float), targets.apply(as_float), seeds, options).images
    torch.testing.assert_close(images.flatten(0, 1), (2 * x - 1).clamp(-1, 1), atol=1e-3, rtol=0)
    assert 0.05 < images.std() < 1
