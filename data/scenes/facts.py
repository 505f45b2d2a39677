"""Facts about the training data for a family, before its model is constructed."""

from dataclasses import dataclass

from jaxtyping import Float64
from torch import Tensor

from data.cameras.pinhole import Cameras, cameras_from_poses
from data.scenes.damaged_files import DamagedFileError, with_advice
from data.scenes.objects import Objects
from data.scenes.views import evenly_spaced


@dataclass(frozen=True)
class DataFacts:
    """Facts that are read from the objects of a training set on access."""

    objects: Objects

    def some_cameras(self, num: int) -> list[Cameras]:
        """Cameras [v] of all views of up to `num` objects, evenly spaced over the set, at least one.

        Raises ValueError where a file cannot be used; with `data.damaged` "skip", where none can.
        """
        config, found, problem = self.objects.config, [], None
        for index in evenly_spaced(range(len(self.objects)), min(num, len(self.objects))):
            try:
                found.append(self.objects.cameras(index))
            except DamagedFileError as error:
                problem = ValueError(with_advice(error, config.root))
                if config.damaged == "stop":
                    raise problem from error
        if not found:
            raise problem or ValueError(f"data.root={config.root}: holds no objects")
        return found

    def calibrated_cameras(self) -> Cameras | None:
        """The cameras of all calibration files of the set, in the world of its views; None if it has none.

        Raises ValueError where one is missing or damaged.
        """
        rig, radius = self.objects.raw.calibration(), self.objects.config.object_radius
        return rig and cameras_from_poses(rig.cam_to_world, rig.intrinsics, object_radius=radius)

    def every_projection(self) -> Float64[Tensor, "n 3 4"] | None:
        """World to pixels by each calibration file, in their own world; otherwise like these cameras."""
        rig = self.objects.raw.calibration()
        return rig and rig.projections
