"""Drawing scenes along the poses of a driving video: sample_views.py --drive."""

from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from config.run import RunConfig
from data.formats.registry import at_root, open_split
from data.formats.videos.objects import open_video
from data.images.files import write_mp4, write_png
from data.images.pixels import RESAMPLING, from_uint8, to_uint8
from data.scenes.batch import Views, all_valid
from data.scenes.views import choose_objects
from data.scenes.windows import middle_first
from models.base import NVSModel
from models.checkpoints.loading import load_model
from models.device import autocast, choose_device, place
from scripts.common.progress import progress_bar
from scripts.sampling.request import SampleRequest
from scripts.sampling.writer import VIDEO_SIDE


def transfer_views(request: SampleRequest) -> list[Path]:
    """Draw scenes along a driving video, beside it; returns the videos that were written.

    Raises ValueError where the video, or a scene, cannot be used, or where the model cannot follow a video.
    """
    device = choose_device(request.device)
    model, config, _ = load_model(request.checkpoint)
    data = config.data if request.subject.data is None else at_root(config.data, request.subject.data)
    driving = read_driving(request.drive, config, request.num_views)
    objects = open_split(data, request.subject.split, cameras=False)
    objects.require(model.requires)
    chosen = choose_objects(objects, num=request.subject.num or 1, names=request.subject.names)
    place(model, device)
    written = []
    with torch.no_grad(), autocast(config.train.precision, device):
        targets = model.read_targets(driving.to(device))
        for index in chosen:
            frames = request.subject.source_views or (0,)
            ordered = [frames[number] for number in middle_first(list(frames))]
            source = objects.read_views(index, ordered)
            drawn = draw_along(model, config, source.to(device), targets, batch=request.batch)
            folder = request.output or Path("samples") / config.name
            folder = folder / objects.ids[index] if len(chosen) > 1 or request.output is None else folder
            written.append(
                _write(folder, request.prefix, source, driving.images[0], drawn.cpu(), fps=request.fps)
            )
    return written


def read_driving(path: Path, config: RunConfig, num: int | None = None) -> Views:
    """The frames of a video file or of a folder of pictures, the first `num`. Raises ValueError."""
    raw, size = open_video(path), config.data.image_size
    count = raw.num_views(0)
    if num is not None and num > count:
        raise ValueError(f"{path}: has {count} frames, but {num} are asked of it; lower --views")
    resample = RESAMPLING[config.data.resampling]
    pictures = [resample(raw.picture(0, view), size, size) for view in range(num or count)]
    return all_valid(from_uint8(torch.stack(pictures))[None], None)


def draw_along(
    model: NVSModel, config: RunConfig, source: Views, targets, *, batch: int
) -> Float[Tensor, "t 3 h w"]:
    """The views of one scene at targets [1 t], `batch` at a time."""
    scene, count, parts = model.encode(source), targets.shape[1], []
    with progress_bar(total=count, unit="view") as bar:
        for start in range(0, count, batch):
            some = targets.apply(lambda tensor, start=start: tensor[:, start : start + batch])
            seeds = torch.arange(start, start + some.shape[1])[None]
            parts.append(model.draw(scene, some, seeds, config.sample).images[0])
            bar.update(some.shape[1])
    return torch.cat(parts)


def _write(
    folder: Path,
    prefix: str,
    source: Views,
    driving: Float[Tensor, "t 3 h w"],
    drawn: Float[Tensor, "t 3 h w"],
    *,
    fps: float,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    views, led = to_uint8(drawn), to_uint8(driving)
    for number, picture in enumerate(to_uint8(source.images[0])):
        write_png(folder / f"{prefix}cond_{number:02d}.png", picture)
    for number, picture in enumerate(views):
        write_png(folder / f"{prefix}view_{number:04d}.png", picture)
    scale = max(1, VIDEO_SIDE // views.shape[1])
    write_mp4(folder / f"{prefix}views.mp4", views, fps=fps, scale=scale)
    together = torch.cat([led, views], dim=2)
    write_mp4(folder / f"{prefix}transfer.mp4", together, fps=fps, scale=scale)
    write_png(folder / f"{prefix}transfer.png", _sheet(led, views))
    return folder / f"{prefix}transfer.mp4"


def _sheet(led: UInt8[Tensor, "t h w 3"], views: UInt8[Tensor, "t h w 3"]) -> UInt8[Tensor, "y x 3"]:
    """The driving video above, the drawn one below."""
    return torch.cat([torch.cat(list(led), dim=1), torch.cat(list(views), dim=1)], dim=0)
