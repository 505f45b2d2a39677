"""The body styles of procedural cars: measures and side profiles in metres."""

from dataclasses import dataclass

from data.meshes.primitives import Colour


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
    accent: Colour  # marking that distinguishes left from right


STYLES: dict[str, CarPlan] = {
    "sedan": CarPlan(
        4.7, 1.82, 1.45, (0.88, 3.62), 0.33, 0.22,
        ((0.0, 0.58), (0.02, 0.68), (0.08, 0.76), (0.28, 0.93), (0.5, 0.95),
         (0.8, 0.98), (0.88, 1.0), (0.97, 0.98), (1.0, 0.86)),
        Cabin(0.27, 0.44, 0.68, 0.86, (0.50, 0.69)),
    ),
    "hatchback": CarPlan(
        4.1, 1.76, 1.48, (0.82, 3.38), 0.32, 0.22,
        ((0.0, 0.60), (0.02, 0.72), (0.09, 0.80), (0.27, 0.97), (0.6, 1.0), (0.9, 1.04), (1.0, 0.96)),
        Cabin(0.24, 0.42, 0.86, 0.985, (0.53, 0.75), rear_pillar=0.28, roof_camber=(0.05, 0.09)),
    ),
    "wagon": CarPlan(
        4.75, 1.82, 1.48, (0.9, 3.65), 0.33, 0.22,
        ((0.0, 0.58), (0.02, 0.68), (0.08, 0.77), (0.27, 0.94), (0.6, 0.96), (0.9, 1.0), (1.0, 0.95)),
        Cabin(0.26, 0.42, 0.90, 0.988, (0.49, 0.67, 0.82), rear_pillar=0.12, roof_camber=(0.05, 0.05)),
    ),
    "coupe": CarPlan(
        4.5, 1.84, 1.34, (0.92, 3.5), 0.34, 0.20,
        ((0.0, 0.55), (0.02, 0.66), (0.08, 0.74), (0.3, 0.88), (0.5, 0.90),
         (0.8, 0.94), (0.95, 0.96), (1.0, 0.84)),
        Cabin(0.31, 0.49, 0.62, 0.92, (0.60,), roof_width=0.74, rear_pillar=0.5, roof_camber=(0.04, 0.06)),
    ),
    "sports": CarPlan(
        4.45, 1.98, 1.16, (0.95, 3.52), 0.34, 0.15,
        ((0.0, 0.42), (0.03, 0.52), (0.12, 0.72), (0.21, 0.82), (0.3, 0.81),
         (0.55, 0.84), (0.77, 0.95), (0.95, 0.95), (1.0, 0.80)),
        Cabin(0.25, 0.47, 0.56, 0.86, (),
              roof_width=0.66, rear_pillar=0.75, bow=0.18, roof_camber=(0.03, 0.012)),
        squareness=3.6,
    ),
    "suv": CarPlan(
        4.6, 1.90, 1.74, (0.9, 3.65), 0.38, 0.30,
        ((0.0, 0.72), (0.02, 0.92), (0.08, 1.0), (0.25, 1.1), (0.6, 1.12), (0.9, 1.15), (1.0, 1.08)),
        Cabin(0.24, 0.37, 0.88, 0.985, (0.50, 0.70), roof_width=0.80, rear_pillar=0.2),
        squareness=6.0,
    ),
    "offroad": CarPlan(
        4.1, 1.84, 1.88, (0.78, 3.3), 0.40, 0.40,
        ((0.0, 1.0), (0.03, 1.12), (0.3, 1.16), (0.6, 1.17), (1.0, 1.17)),
        Cabin(0.33, 0.385, 0.955, 0.985, (0.56, 0.76),
              roof_width=0.90, rear_pillar=0.1, bow=0.03, roof_camber=(0.02, 0.02)),
        squareness=11.0, ends=(0.9, 0.92), smoothing=0.02,
    ),
    "pickup": CarPlan(
        5.3, 1.95, 1.80, (1.0, 4.15), 0.40, 0.42,
        ((0.0, 0.82), (0.02, 1.02), (0.07, 1.09), (0.24, 1.16), (0.6, 1.18), (1.0, 1.18)),
        Cabin(0.23, 0.345, 0.56, 0.59, (0.43,), roof_width=0.80, rear_pillar=0.12),
        well=Well(0.615, 0.97, 0.24), squareness=7.0, ends=(0.8, 0.93), smoothing=0.03,
    ),
    "minibus": CarPlan(
        4.9, 1.90, 1.96, (0.92, 3.95), 0.34, 0.24,
        ((0.0, 0.66), (0.02, 0.86), (0.06, 0.98), (0.14, 1.08), (0.3, 1.10), (1.0, 1.10)),
        Cabin(0.10, 0.25, 0.95, 0.99, (0.40, 0.60, 0.80),
              roof_width=0.88, rear_pillar=0.12, roof_camber=(0.07, 0.04)),
        squareness=8.0, ends=(0.8, 0.9), smoothing=0.04,
    ),
    "delivery": CarPlan(
        5.1, 1.95, 2.20, (0.95, 4.1), 0.35, 0.26,
        ((0.0, 0.68), (0.02, 0.9), (0.06, 1.02), (0.14, 1.14), (0.3, 1.16), (1.0, 1.16)),
        Cabin(0.11, 0.25, 0.96, 0.99, (0.41,),
              roof_width=0.92, num_windows=1, rear_window=False, roof_camber=(0.10, 0.03)),
        squareness=9.0, ends=(0.8, 0.93), smoothing=0.04,
    ),
    "convertible": CarPlan(
        4.2, 1.78, 1.26, (0.85, 3.4), 0.32, 0.20,
        ((0.0, 0.55), (0.02, 0.66), (0.08, 0.75), (0.32, 0.89), (0.6, 0.92), (0.9, 0.94), (1.0, 0.80)),
        None, well=Well(0.42, 0.70, 0.34),
    ),
    "city": CarPlan(
        2.95, 1.62, 1.53, (0.52, 2.45), 0.29, 0.21,
        ((0.0, 0.62), (0.03, 0.78), (0.10, 0.88), (0.25, 1.0), (0.6, 1.03), (1.0, 0.98)),
        Cabin(0.15, 0.38, 0.86, 0.975, (0.62,), roof_width=0.82, rear_pillar=0.2, roof_camber=(0.08, 0.08)),
        squareness=4.0, smoothing=0.07,
    ),
    "limousine": CarPlan(
        7.0, 1.86, 1.46, (0.92, 5.75), 0.33, 0.22,
        ((0.0, 0.60), (0.015, 0.70), (0.06, 0.78), (0.19, 0.93), (0.5, 0.95),
         (0.85, 0.98), (0.97, 0.97), (1.0, 0.88)),
        Cabin(0.185, 0.295, 0.80, 0.90, (0.36, 0.475, 0.59, 0.705), rear_pillar=0.3),
        smoothing=0.03,
    ),
    "classic": CarPlan(
        4.05, 1.56, 1.50, (0.80, 3.22), 0.33, 0.24,
        ((0.0, 0.42), (0.04, 0.64), (0.12, 0.86), (0.25, 0.97), (0.6, 1.0),
         (0.78, 0.94), (0.93, 0.70), (1.0, 0.42)),
        Cabin(0.28, 0.41, 0.56, 0.88, (0.53,),
              roof_width=0.82, rear_pillar=0.55, bow=0.06, roof_camber=(0.06, 0.05)),
        squareness=3.2, ends=(0.55, 0.55), smoothing=0.08,
    ),
    "taxi": CarPlan(
        4.75, 1.84, 1.52, (0.9, 3.66), 0.33, 0.23,
        ((0.0, 0.60), (0.015, 0.74), (0.08, 0.84), (0.28, 0.95), (0.5, 0.97),
         (0.8, 1.0), (0.88, 1.02), (0.98, 1.0), (1.0, 0.88)),
        Cabin(0.26, 0.40, 0.71, 0.85, (0.49, 0.69), roof_width=0.80),
        squareness=5.5,
    ),
}  # fmt: skip
