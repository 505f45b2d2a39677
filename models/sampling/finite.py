"""Refuse samples that are not finite."""

from torch import Tensor


def require_finite(*outputs: Tensor | None, of: str = "") -> None:
    """Raise ValueError if an output of a model, those of `of` (such as "view 3"), holds nan or inf."""
    if not all(bool(values.isfinite().all()) for values in outputs if values is not None):
        place = f"{of}: " if of else ""
        raise ValueError(f"{place}the model gave nan; use an earlier checkpoint or less guidance")
