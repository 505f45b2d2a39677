"""The only import of k-diffusion: on first use, because it takes seconds."""

import warnings
from types import ModuleType


def k_diffusion() -> ModuleType:
    """Import k-diffusion without the deprecation warnings of its dependencies."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
        warnings.simplefilter("ignore", DeprecationWarning)
        import k_diffusion as package
    return package
