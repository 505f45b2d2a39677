"""Model families: name -> where the model lives. A new family is one package and one line here."""

from importlib import import_module

DEFAULT = "genvs"  # of configs that name no family
PROJECT = "genvs"  # under which runs are tracked
FAMILIES = {
    "genvs": ("models.genvs.model", "GeNVS"),
    "pixelnerf": ("models.pixelnerf.model", "PixelNeRF"),
    "xfactor": ("models.xfactor.model", "XFactor"),
    "image_diffusion": ("models.image_diffusion.model", "ImageDiffusion"),
}


def family(name: str) -> type:
    """The model class of a family; its `Config` describes it.

    Raises ValueError where no family has that name.
    """
    if name not in FAMILIES:
        raise ValueError(f"there is no model family '{name}'; choose one of {', '.join(FAMILIES)}")
    module, attribute = FAMILIES[name]
    return getattr(import_module(module), attribute)
