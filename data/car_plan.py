"""What a procedural car is made from: its measures and its colours."""

from dataclasses import dataclass

from data.primitives import Colour


@dataclass(frozen=True)
class Cabin:
    """Everything above the belt line. Positions along the car are shares of its length."""

    base_front: float  # foot of the windscreen
    roof_front: float
    roof_rear: float
    base_rear: float  # foot of the rear window
    pillars: tuple[float, ...]  # centres of the pillars between the side windows
    roof_width: float = 0.78  # share of the car's width; the rest is tumblehome
    rear_pillar: float = 0.22  # metres
    roof_camber: tuple[float, float] = (0.05, 0.05)  # metres that the roof falls to its front and rear edge
    bow: float = 0.10  # metres that the windscreen bulges forward
    num_windows: int = 9  # side windows counted from the front; later ones are sheet metal
    rear_window: bool = True


@dataclass(frozen=True)
class Well:
    """Open compartment in the top of the body: a load bed or the seats of a convertible."""

    front: float  # share of the length
    rear: float
    depth: float  # metres


@dataclass(frozen=True)
class CarPlan:
    """Measures of one car, in metres except for shares of the length."""

    length: float
    width: float
    height: float
    axles: tuple[float, float]  # distance of the wheels from the nose
    wheel_radius: float
    clearance: float  # height of the sills above the road
    profile: tuple[tuple[float, float], ...]  # top of the lower body: (share of length, height)
    cabin: Cabin | None
    well: Well | None = None
    squareness: float = 4.5  # exponent of the superellipse that rounds the shoulders
    ends: tuple[float, float] = (0.74, 0.80)  # width of nose and tail, share of the full width
    smoothing: float = 0.05  # of the profile, share of the length


@dataclass(frozen=True)
class Paint:
    """Colours of one car."""

    body: Colour
    lower: Colour  # below the waist
    roof: Colour
    glass: Colour
    trim: Colour  # sills, bumper lips, mirrors, racks
    seats: Colour
    rim: Colour
    accent: Colour  # whatever tells the left from the right
