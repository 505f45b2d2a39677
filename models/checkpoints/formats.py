"""The formats of checkpoints that can be opened.

To add one, add an entry with a function that recognises a file and one that loads it. For published weights
of a network, the latter renames the tensors and adds a config.
"""

from collections.abc import Callable
from dataclasses import dataclass

from config.run import RunConfig
from models.checkpoints.format import FORMAT, Checkpoint, is_own, load_own
from models.checkpoints.k_diffusion import is_denoiser, load_denoiser
from models.checkpoints.opened_file import CheckpointFile
from models.checkpoints.published import is_published, load_published
from models.checkpoints.published_control import is_published_control, load_published_control
from models.checkpoints.viewfusion import is_viewfusion, load_viewfusion
from models.checkpoints.xfactor import is_xfactor, load_xfactor


@dataclass(frozen=True)
class Wanted:
    """Options of loading."""

    sections: tuple[str, ...]  # of checkpoints of ours
    config: RunConfig | None  # of weights that come without one; None: the format's own


@dataclass(frozen=True)
class Format:
    """A kind of file with weights."""

    name: str
    description: str  # for the user, in a few words: one line names all formats
    recognises: Callable[[CheckpointFile], bool]  # by names alone; raises nothing
    load: Callable[[CheckpointFile, Wanted], Checkpoint]  # or ValueError with a remedy


# The first that recognises a file loads it.
FORMATS = (
    Format(
        "own",
        f"a checkpoint of this project ({FORMAT})",
        is_own,
        lambda file, wanted: load_own(file, wanted.sections),
    ),
    Format(
        "published_control",
        "ControlNets",
        is_published_control,
        lambda file, wanted: load_published_control(file, wanted.config),
    ),
    Format(
        "published",
        "published GeNVS weights (input_unet.*, nerf.*)",
        is_published,
        lambda file, wanted: load_published(file, wanted.config),
    ),
    Format(
        "k_diffusion",
        "a denoiser of k-diffusion (u_net.*)",
        is_denoiser,
        lambda file, _: load_denoiser(file),
    ),
    Format(
        "viewfusion",
        "ViewFusion weights",
        is_viewfusion,
        lambda file, wanted: load_viewfusion(file, wanted.config),
    ),
    Format(
        "xfactor",
        "XFactor arrays",
        is_xfactor,
        lambda file, wanted: load_xfactor(file, wanted.config),
    ),
)
