"""Textures that move, and the shift that is read off two pictures of one."""

import pytest
import torch
from torchvision.transforms.functional import gaussian_blur

from data.shapes.shifting_textures import read_shift, shifting_texture


def frames(seed: int) -> torch.Tensor:
    return torch.from_numpy(shifting_texture(seed, 4, 32)).movedim(-1, 1) / 127.5 - 1


@pytest.mark.parametrize("seed", range(5))
def test_blur_and_noise_do_not_hide_the_shift(seed):
    """A drawn picture is blurred, and has noise and borders of patches, which textures have not."""
    given = frames(seed)
    step = read_shift(given[0], given[1])
    noise = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(seed))
    patches = torch.zeros(3, 32, 32)
    patches[:, ::4], patches[:, :, ::4] = 0.2, 0.2
    blurred = gaussian_blur(given[2], [7, 7], [1.5, 1.5])
    for drawn in (blurred, blurred + patches, given[2] + 0.1 * noise + patches):
        assert read_shift(given[0], drawn) == tuple(2 * part for part in step)


def test_a_picture_that_is_not_square_is_read_along_its_own_sides():
    given = frames(0)[0, :, :, :20]
    assert read_shift(given, given.roll((3, -7), dims=(1, 2))) == (3, -7)
