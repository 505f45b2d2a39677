"""PSNR, SSIM and perceptual distances, against other routes to the same numbers."""

import sys

import numpy as np
import pytest
import torch

pytest.importorskip("torchmetrics", reason="needs requirements-metrics.txt")
stlpips = pytest.importorskip("stlpips_pytorch.stlpips", reason="needs requirements-metrics.txt")

from skimage.metrics import structural_similarity  # noqa: E402

from data.images.quality import extra, psnr, ssim, uniform_ssim  # noqa: E402
from models.perceptual import load_stlpips  # noqa: E402


def pictures(*batch, size=(37, 45), noise=0.3, seed=0):
    """Smooth images, and the same with noise, some of it beyond [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(*batch, 3, 5, 6, generator=generator).flatten(0, -4) * 2 - 1
    truth = torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(-1, 1)
    images = truth + noise * torch.randn(truth.shape, generator=generator)
    return images.unflatten(0, batch), truth.unflatten(0, batch)


def saved(images):
    """8-bit pixels, channels last, as numpy rounds them."""
    pixels = (images.double().clamp(-1, 1).numpy() + 1) / 2 * 255
    return np.moveaxis(np.round(pixels).astype(np.uint8), -3, -1)


@pytest.fixture(scope="module")
def distance():
    return load_stlpips(torch.device("cpu"))


def test_psnr_is_that_of_the_saved_pixels_in_float64():
    images, truth = pictures(2, 3)
    error = (saved(images).astype(np.float64) - saved(truth).astype(np.float64)) / 255
    expected = -10 * np.log10((error**2).mean(axis=(-3, -2, -1)))
    torch.testing.assert_close(psnr(images, truth).double(), torch.from_numpy(expected), atol=1e-4, rtol=0)


@pytest.mark.parametrize("noise", [0.02, 0.3, 2.0])
def test_ssim_is_that_of_scikit_image(noise):
    images, truth = pictures(2, 3, noise=noise)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    options |= {"channel_axis": -1, "data_range": 255}
    expected = [
        [structural_similarity(*pair, **options) for pair in zip(*scene, strict=True)]
        for scene in zip(saved(images), saved(truth), strict=True)
    ]
    assert 0.02 < expected[0][0] < 0.999
    torch.testing.assert_close(ssim(images, truth).double(), torch.tensor(expected), atol=1e-4, rtol=0)


@pytest.mark.parametrize("noise", [0.02, 0.3, 2.0])
def test_uniform_ssim_is_that_of_scikit_image_as_it_comes(noise):
    images, truth = pictures(2, 3, noise=noise)
    pairs = zip(saved(images).reshape(6, 37, 45, 3), saved(truth).reshape(6, 37, 45, 3), strict=True)
    expected = [structural_similarity(*pair, channel_axis=-1, data_range=255) for pair in pairs]
    found = uniform_ssim(images, truth).flatten().double()
    torch.testing.assert_close(found, torch.tensor(expected).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(uniform_ssim(torch.ones(1, 3, 9, 8), torch.ones(1, 3, 9, 8)), torch.ones(1))


def test_pictures_that_look_the_same_when_saved_are_equal(distance):
    _, truth = pictures(2)
    nearly = truth.clamp(-0.99, 0.99)
    nearly = torch.from_numpy(saved(nearly)).movedim(-1, -3) / 127.5 - 1
    moved = nearly + 0.4 / 127.5
    assert not torch.equal(moved, nearly)
    torch.testing.assert_close(ssim(moved, nearly), torch.ones(2))
    assert torch.equal(distance(moved, nearly), torch.zeros(2))


def test_stlpips_grows_with_noise_and_is_symmetric(distance):
    previous = torch.zeros(2)
    for noise in (0.05, 0.2, 0.8):
        images, truth = pictures(2, noise=noise)
        there, back = distance(images, truth), distance(truth, images)
        torch.testing.assert_close(there, back)
        assert (there > previous + 1e-3).all()
        previous = there


def test_stlpips_of_a_picture_does_not_depend_on_the_others(distance):
    images, truth = pictures(3, size=(32, 41))
    alone = torch.cat([distance(images[i : i + 1], truth[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(distance(images, truth), alone, atol=1e-6, rtol=1e-5)


def test_stlpips_has_the_weights_that_its_package_loads(distance):
    # On torch 2.6 and newer the package's own torch.load reads tensors alone, too.
    theirs = stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False)
    images, truth = (part.clamp(-1, 1) for part in pictures(2))
    rounded = [torch.from_numpy(saved(part)).movedim(-1, -3).float() / 127.5 - 1 for part in (images, truth)]
    with torch.no_grad():
        torch.testing.assert_close(distance(images, truth), theirs(*rounded).flatten())


@pytest.mark.parametrize(
    ("size", "metric"), [((10, 40), "SSIM"), ((40, 6), "SSIM 7x7"), ((40, 31), "stLPIPS")]
)
def test_pictures_that_are_too_small_are_refused(distance, size, metric):
    images, truth = pictures(1, size=size)
    with pytest.raises(ValueError, match=rf"{size[0]} x {size[1]} .* {metric.split()[0]}"):
        {"SSIM": ssim, "SSIM 7x7": uniform_ssim, "stLPIPS": distance}[metric](images, truth)


@pytest.mark.parametrize("name", ["torchmetrics", "stlpips_pytorch"])
def test_a_missing_package_is_named_with_the_file_that_brings_it(name, monkeypatch):
    for loaded in list(sys.modules):
        if loaded.split(".")[0] == name:
            monkeypatch.setitem(sys.modules, loaded, None)
    with pytest.raises(ValueError, match=rf"{name}.* not installed; .*requirements-metrics.txt"):
        extra(f"{name}.functional.image" if name == "torchmetrics" else f"{name}.stlpips")
