"""`load` makes a trained model of any family from a run or a checkpoint.

Importing this is light: torch comes when it is needed.
"""

from pathlib import Path


def load(run_or_checkpoint: str | Path, device: str = "auto") -> "models.base.NVSModel":
    """A trained model of any family, ready for use, from a run such as "runs/quickstart" or a checkpoint.

    It has the averaged weights, is in evaluation mode and wants no gradients. `device` is "auto" (a GPU if
    there is one), "cpu", "cuda" or "cuda:N". `model.options` are the run's sampling options,
    `model.trained_on` is the data that it knows. From photos with cameras to other views of the object:

        model = load("runs/quickstart")
        photos = read_photos([Path("photo.png")], [Path("pose.txt")], **model.trained_on.photo_options)
        cameras = trajectory("turntable", photos.cameras[0, 0], 8)[None]
        scene, cameras = model.encode(photos.to(model.device)), cameras.to(model.device)
        views = model.draw(scene, cameras, torch.arange(8)[None], model.options)

    `encode` and `draw` in one are `sample`. Models with volumes also have `render(scene, cameras)`, whose
    latent images, depth and opacity need no sampling. docs/library.md has more. Raises ValueError if
    there is no such run, checkpoint or device, or the file cannot be used.
    """
    from models.checkpoints.loading import load_from_disk

    return load_from_disk(run_or_checkpoint, device)
