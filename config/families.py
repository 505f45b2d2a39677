"""Model families: name -> model class. A new family is one package and one line here."""

from importlib import import_module

DEFAULT = "genvs"  # of configs without a family
PROJECT = "genvs"  # name of the project in experiment tracking
FAMILIES = {
    "genvs": ("models.genvs.model", "GeNVS"),
    "pixelnerf": ("models.pixelnerf.model", "PixelNeRF"),
    "xfactor": ("models.xfactor.model", "XFactor"),
    "image_diffusion": ("models.image_diffusion.model", "ImageDiffusion"),
    "viewfusion": ("models.viewfusion.model", "ViewFusion"),
    "controlnet": ("models.controlnet.model", "ControlNet"),
    "multiview": ("models.multiview.model", "Multiview"),
    "viewneti": ("models.viewneti.model", "ViewNeTI"),
}


def family(name: str) -> type:
    """Return the model class of a family, with its `Config`.

    Raises ValueError if the family is unknown.
    """
    if name not in FAMILIES:
        raise ValueError(f"there is no model family '{name}'; choose one of {', '.join(FAMILIES)}")
    module, attribute = FAMILIES[name]
    return getattr(import_module(module), attribute)
