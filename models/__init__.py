"""`load` returns a trained model of any family from a run or a checkpoint.

Importing this package is cheap: torch is imported on first use.
"""

from pathlib import Path


def load(run_or_checkpoint: str | Path, device: str = "auto") -> "models.base.NVSModel":
    """Load a trained model of any family from a run such as "runs/quickstart" or a checkpoint.

    It has the averaged (EMA) weights, is in evaluation mode and requires no gradients. `device` is "auto" (a
    GPU if available), "cpu", "cuda" or "cuda:N". `model.options` are the run's sampling options,
    `model.trained_on` is its data config. From photos with cameras to novel views:

        model = load("runs/quickstart")
        photos = read_photos([Path("photo.png")], [Path("pose.txt")], **model.trained_on.photo_options)
        cameras = trajectory("turntable", photos.cameras[0, 0], 8)[None]
        scene, cameras = model.encode(photos.to(model.device)), cameras.to(model.device)
        views = model.draw(scene, cameras, torch.arange(8)[None], model.options)

    `encode` and `draw` in one are `sample`. Models with volumes also have `render(scene, cameras)`, whose
    latent images, depth and opacity need no sampling. See docs/library.md. Raises ValueError if
    there is no such run, checkpoint or device, or the file cannot be used.
    """
    from models.checkpoints.loading import load_from_disk

    return load_from_disk(run_or_checkpoint, device)
