"""Textures, holes and corner colours of meshes, against closed forms."""

import numpy as np
import pytest

from data.meshes.lighting import soft_lights, three_suns
from data.meshes.mesh import Mesh, join_meshes, take_faces
from data.meshes.ray_casting import look_at_origin, render_meshes
from data.meshes.textures import Skin, SkinReader

SIZE = 45
FOCAL = 1.1
INTRINSICS = np.array([[FOCAL, 0, 0.5], [0, FOCAL, 0.5], [0, 0, 1]])
CORNERS = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
FACES = np.array([[0, 1, 2], [0, 2, 3]])


def bright(normals: np.ndarray) -> np.ndarray:
    """Light in which everything shows its own colour."""
    return np.ones(len(normals))


def square(texture: np.ndarray | None = None, *, x: float = 0.0, scale: float = 0.6, colour=(255, 255, 255)):
    """A square at right angles to the x axis, y across and z up, under its texture."""
    vertices = np.stack([np.full(4, x), *(scale * (CORNERS[:, :2] - 0.5)).T], axis=1)
    colours = np.tile(np.array(colour, np.uint8), (2, 1))
    skin = None if texture is None else Skin((texture,), np.zeros(2, int), CORNERS[:, :2][FACES])
    return Mesh(vertices, FACES, colours, None, skin)


def seen(mesh: Mesh, position=(1.0, 0.0, 0.0), **changes):
    poses = look_at_origin(np.array(position))[None]
    settings = {"intrinsics": INTRINSICS, "height": SIZE, "width": SIZE, "lighting": bright} | changes
    return render_meshes(mesh, poses, **settings)


def opaque(colours: np.ndarray) -> np.ndarray:
    return np.concatenate([colours, np.full((*colours.shape[:2], 1), 255)], axis=2).astype(np.uint8)


def texture_of(seed: int, height: int, width: int) -> np.ndarray:
    return opaque(np.random.default_rng(seed).integers(0, 256, (height, width, 3)))


WRAPPED = {  # number of the texel that is seen at any place of an endless row
    "repeat": lambda place, count: place % count,
    "mirror": lambda place, count: [*range(count), *range(count - 1, -1, -1)][place % (2 * count)],
    "clamp": lambda place, count: min(max(place, 0), count - 1),
}


def looked_up(texture: np.ndarray, u: float, v: float, wraps=("repeat", "repeat")) -> np.ndarray:
    """Bilinear, one texel at a time."""
    height, width = texture.shape[:2]
    x, y = u * width - 0.5, (1 - v) * height - 0.5
    total = np.zeros(3)
    for column in (int(np.floor(x)), int(np.floor(x)) + 1):
        for row in (int(np.floor(y)), int(np.floor(y)) + 1):
            weight = (1 - abs(x - column)) * (1 - abs(y - row))
            place = WRAPPED[wraps[1]](row, height), WRAPPED[wraps[0]](column, width)
            total += weight * texture[*place, :3]
    return total


@pytest.mark.parametrize("along_u", WRAPPED)
@pytest.mark.parametrize("along_v", WRAPPED)
def test_a_texture_is_read_bilinearly_and_goes_on_as_it_says(along_u, along_v):
    texture, random = texture_of(1, 5, 7), np.random.default_rng(2)
    wraps = (along_u, along_v)
    uv = random.uniform(-2, 3, (2, 3, 2))
    reader = SkinReader(Skin((texture,), np.zeros(2, int), uv, (wraps,)), np.zeros((2, 3, 3)), spacing=0.0)
    faces, shares = random.integers(0, 2, 40), random.uniform(0, 0.5, (40, 2))
    read = reader.read(faces, shares)
    for face, (second, third), colour in zip(faces, shares, read, strict=True):
        u, v = (1 - second - third) * uv[face, 0] + second * uv[face, 1] + third * uv[face, 2]
        np.testing.assert_allclose(colour, [*looked_up(texture, u, v, wraps), 255], atol=1e-6)


def test_a_texture_lies_where_its_coordinates_say_in_perspective():
    texture = texture_of(3, 3, 4)
    mesh, position = square(texture), np.array([0.8, 0.35, 0.3])
    views = seen(mesh, position, samples=1)
    pose = look_at_origin(position)
    rows, columns = np.nonzero(views.alpha[0])
    assert len(rows) > 300
    image = np.stack([(columns + 0.5) / SIZE, (rows + 0.5) / SIZE, np.ones(len(rows))], axis=1)
    rays = image @ np.linalg.inv(INTRINSICS).T @ pose[:3, :3].T
    points = position - rays * (position[0] / rays[:, 0])[:, None]  # where x is 0
    expected = [looked_up(texture, y / 0.6 + 0.5, z / 0.6 + 0.5) for _, y, z in points]
    np.testing.assert_allclose(views.rgb[0][rows, columns], expected, atol=0.51)


def test_texels_finer_than_a_sample_become_their_mean():
    checks = np.indices((512, 512)).sum(0) % 2 * 255
    views = seen(square(opaque(np.repeat(checks[..., None], 3, 2))))
    inside = views.rgb[views.alpha == 255].astype(int)
    assert abs(inside.mean() - 127.5) < 2
    assert np.ptp(inside) <= 2  # sampled without averaging, they would be 0 to 255


def test_the_colour_of_the_material_multiplies_the_texture():
    texture = opaque(np.full((2, 2, 3), 200))
    views = seen(square(texture, colour=(255, 128, 0)))
    centre = views.rgb[0, SIZE // 2, SIZE // 2]
    assert centre.tolist() == [200, round(200 * 128 / 255), 0]


def test_through_a_hole_one_sees_what_is_behind_and_its_depth():
    texture = texture_of(4, 8, 8)
    texture[:, :4, 3] = 0  # the half with small u, which is the half with small y
    mesh = join_meshes([square(texture, x=0.1), square(x=-0.2, scale=0.9, colour=(255, 0, 0))])
    views = seen(mesh)
    left, right = views.rgb[0, SIZE // 2, [12, 32]], views.depth[0, SIZE // 2, [12, 32]]
    # From +x, with z up, y grows to the right.
    assert left[0].tolist() == [255, 0, 0]
    np.testing.assert_allclose(right, [1.2, 0.9], atol=1e-6)
    assert (views.alpha[0, SIZE // 2, [12, 32]] == 255).all()
    assert seen(take_faces(mesh, np.array([1, 1, 0, 0], bool))).alpha[0, SIZE // 2, [12, 32]].tolist() == [
        0,
        255,
    ]


def test_a_fine_grating_covers_its_share():
    texture = opaque(np.zeros((512, 512, 3)))
    texture[:, ::4, 3] = 0
    views = seen(square(texture), height=60, width=60)
    inside = views.alpha[0, 20:40, 20:40]
    assert inside.mean() / 255 == pytest.approx(0.75, abs=0.03)
    assert not views.rgb[0][views.alpha[0] == 255].any()  # holes leave no colour in what is left


def test_many_layers_of_holes_are_passed():
    clear = opaque(np.zeros((1, 1, 3)))
    clear[..., 3] = 0
    layers = [square(clear, x=0.2 - 0.01 * i) for i in range(12)]
    views = seen(join_meshes([*layers, square(x=-0.1, colour=(0, 0, 255))]))
    assert views.rgb[0, SIZE // 2, SIZE // 2].tolist() == [0, 0, 255]


def test_corner_colours_blend_linearly_in_space():
    colours = np.array([[0, 0, 0], [255, 0, 0], [255, 255, 0], [0, 255, 0]], np.uint8)  # red is y, green is z
    mesh = square()
    mesh = Mesh(mesh.vertices, mesh.faces, mesh.face_colours, colours[FACES])
    views = seen(mesh, samples=1)
    rows, columns = np.nonzero(views.alpha[0])
    y, z = ((columns + 0.5) / SIZE - 0.5) / FOCAL, -((rows + 0.5) / SIZE - 0.5) / FOCAL
    expected = np.stack([255 * (y / 0.6 + 0.5), 255 * (z / 0.6 + 0.5), 0 * y], axis=1)
    np.testing.assert_allclose(views.rgb[0][rows, columns], expected, atol=0.51)


def test_joined_meshes_keep_what_each_has():
    first, plain = square(texture_of(5, 3, 3), x=0.1, scale=0.3), square(scale=0.6, colour=(9, 8, 7))
    second = square(texture_of(6, 2, 5), x=-0.1, scale=0.9)
    joined = join_meshes([first, plain, second])
    assert joined.skin.texture_of.tolist() == [0, 0, -1, -1, 1, 1]
    for mesh, start in ((first, 0), (plain, 2), (second, 4)):
        alone, part = seen(mesh), seen(take_faces(joined, np.isin(np.arange(6), (start, start + 1))))
        np.testing.assert_array_equal(part.rgb, alone.rgb)
        np.testing.assert_array_equal(part.depth, alone.depth)


@pytest.mark.parametrize(("lighting", "darkest"), [(soft_lights, 0.54), (three_suns, 0.58)])
def test_light_never_adds_to_a_colour_and_never_goes_out(lighting, darkest):
    normals = np.random.default_rng(0).normal(size=(5000, 3))
    shares = lighting(normals / np.linalg.norm(normals, axis=1, keepdims=True))
    assert darkest - 1e-9 <= shares.min() < shares.max() <= 1
    assert np.ptp(lighting(np.array([[1.0, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1]]))) > 0.1
