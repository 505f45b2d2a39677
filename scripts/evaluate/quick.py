"""Quick evaluation: PSNR of a model's previews and samples, compared with trivial baselines.

Every held-out object has one source view (view 64 if it exists, otherwise view 0) and evenly spaced target
views. No images are written, but they are rounded to 8 bits. Means are over views, then over objects. If the
set has depth, the geometry of the volume is evaluated, too. Imports nothing slow.
"""

import math
from typing import TYPE_CHECKING

from scripts.common.results import write_json
from scripts.evaluate.request import EvaluateRequest
from scripts.training.messages import tell

if TYPE_CHECKING:  # heavy modules are imported where they are used, so that --help is fast
    import torch

    from config.run import RunConfig
    from data.scenes.batch import Views
    from data.scenes.objects import Objects
    from models.base import NVSModel, Prediction

QUICK_VIEWS = 4
PSNRS = ("preview_psnr", "sample_psnr", "copy_input_psnr", "mean_image_psnr")


def table(figures: dict[str, float]) -> str:
    """Format figures as text, one per line."""
    units = {"psnr": "dB", "error": "/1000 scene unit", "iou": "%", "seconds": "s"}
    return "\n".join(
        f"{name.replace('_', ' '):<20}{value:8.2f} {units[name.rpartition('_')[2]]}"
        for name, value in figures.items()
    )


def evaluate(
    model: "NVSModel",
    config: "RunConfig",
    held_out: "Objects",
    training: "Objects",
    *,
    device: "torch.device",
    num_objects: int | None = None,
    num_views: int = 4,
    seed: int = 0,
) -> dict[str, float]:
    """PSNR in dB of samples, previews, the copied source view and the mean training image.

    If the objects have depth, also `geometry_figures`. Raises ValueError if an object has too few views, or
    only some objects have depth.
    """
    import torch

    from data.images.quality import psnr
    from data.scenes.loader import collate, held_out_choice
    from models.device import autocast
    from scripts.common.progress import progress_bar

    # Check the objects.
    if num_objects is not None and not 1 <= num_objects <= len(held_out):
        raise ValueError(
            f"objects: {num_objects} asked for, but the split has {len(held_out)}; ask for 1 to that many"
        )
    indices = range(num_objects or len(held_out))
    geometry = [held_out.has_geometry(index) for index in indices]
    if any(geometry) and not all(geometry):
        raise ValueError(
            f"{held_out.raw.place(geometry.index(False))}: has no depth, but others have; add "
            "them here, or remove them there"
        )

    # Figures of each object.
    mean, rows = mean_image(training), []
    for index in progress_bar(indices, desc="evaluating", unit="object"):
        choice = held_out_choice(held_out, index, num_targets=num_views, seed=seed)
        batch = collate(held_out, [choice], num_sources=1, geometry=any(geometry))
        batch = batch.apply(lambda tensor: tensor.to(device))
        source, target = batch.source, batch.target
        seeds = batch.seeds[:, None] + torch.arange(num_views)
        options = model.options_of(config.sample, held_out.ids[index])
        with torch.no_grad(), autocast(config.train.precision, device):
            prediction = model.sample(source, target.cameras, seeds, options)
        guesses = (prediction.preview, prediction.images, source.images, mean.to(device))
        row = {
            name: psnr(guess.expand_as(target.images), target.images).mean().item()
            for name, guess in zip(PSNRS, guesses, strict=True)
            if guess is not None
        }
        shape = any(geometry) and prediction.depth is not None
        rows.append(row | (geometry_figures(prediction, target) if shape else {}))

    # Means over the objects that have a figure.
    known = {name: [row[name] for row in rows if math.isfinite(row[name])] for name in rows[0]}
    return {name: sum(values) / len(values) for name, values in known.items() if values}


def geometry_figures(prediction: "Prediction", target: "Views") -> dict[str, float]:
    """Geometry figures of the volume of an object.

    Mean absolute error of depth, in thousandths of a scene unit, over the pixels that the object covers
    completely; that of a plane through the origin with the true silhouette; intersection over union of the
    silhouettes, in percent. Means over the views where they are defined; nan if there are none.
    """
    import torch

    truth, depth, opaque = target.geometry, prediction.depth[:, :, 0], prediction.opacity[:, :, 0] > 0.5
    whole, shown = (truth.alpha > 1 - 1e-6) & (truth.depth > 0), truth.alpha > 0.5
    origin = torch.zeros(*target.cameras.shape, 1, 3).to(depth)
    flat = target.cameras.to_camera(origin)[..., 2:]  # the depth of the origin
    pixels = (-2, -1)
    errors = [
        1000 * ((guess - truth.depth).abs() * whole).sum(pixels) / whole.sum(pixels)
        for guess in (depth, flat)
    ]
    overlap = 100 * (opaque & shown).sum(pixels) / (opaque | shown).sum(pixels)
    figures = {"depth_error": errors[0], "flat_depth_error": errors[1], "silhouette_iou": overlap}
    return {name: values.nanmean().item() for name, values in figures.items()}


def mean_image(objects: "Objects") -> "torch.Tensor":
    """Mean [3, h, w] over every view of every object."""
    import torch

    from scripts.common.progress import progress_bar

    means = [
        objects.read(index, range(objects.num_views(index)))[0].mean(dim=0)
        for index in progress_bar(range(len(objects)), desc="mean image", unit="object")
    ]
    weights = torch.tensor([float(objects.num_views(index)) for index in range(len(objects))])
    return torch.einsum("nchw,n->chw", torch.stack(means), weights / weights.sum())


def evaluate_quickly(request: EvaluateRequest) -> dict[str, float]:
    """Evaluate a request; the figures are also written to its `output`, if given."""
    from data.formats.registry import at_root, open_split
    from models.checkpoints.loading import load_model
    from models.device import choose_device, place

    model, config, _ = load_model(request.checkpoint)
    data = at_root(config.data, request.data) if request.data else config.data
    if request.depth_scale is not None:
        data = data.model_copy(update={"depth_scale": request.depth_scale})
    device = choose_device(request.device)
    objects = open_split(data, request.split or "val")
    tell(objects.notices, "evaluate")
    figures = evaluate(
        place(model, device),
        config,
        objects,
        open_split(data, "train"),
        device=device,
        num_objects=request.num_objects,
        num_views=request.num_views or QUICK_VIEWS,
        seed=request.seed,
    )
    if request.output:
        write_json(request.output, figures)
    return figures
