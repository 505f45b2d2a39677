"""The one place that imports k-diffusion: on first use, because that takes seconds."""

import warnings
from types import ModuleType


def k_diffusion() -> ModuleType:
    """The k-diffusion package, without the deprecation warnings of what it imports in its turn."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
        warnings.simplefilter("ignore", DeprecationWarning)
        import k_diffusion as package
    return package
