"""The scenes and cameras of DTU that papers train and evaluate on. Imports nothing slow.

Cameras are counted from 0; file names of pictures and calibrations count from 1. Sources: the scenes and
cameras of pixelNeRF (Yu et al. 2021, arXiv:2012.02190), with the views of RegNeRF (Niemeyer et al. 2022,
arXiv:2112.00724) and of ViewNeTI (Burgess et al. 2024).
"""

NUM_CAMERAS = 64  # calibrated ones; most scenes have pictures of the first 49 alone
TEST_SCENES = (8, 21, 30, 31, 34, 38, 40, 41, 45, 55, 63, 82, 103, 110, 114)
_EXCLUDED_SCENES = (1, 2, 7, 25, 26, 27, 29, 39, 51, 54, 56, 57, 58, 73, 83, 111, 112, 113, 115, 116, 117)
_ALL_SCENES = (*range(1, 78), *range(82, 129))  # there are no scans 78 to 81
TRAIN_SCENES = tuple(scan for scan in _ALL_SCENES if scan not in (*TEST_SCENES, *_EXCLUDED_SCENES))

INPUT_ORDER = (25, 22, 28, 40, 44, 48, 0, 8, 13)  # the first 1, 3, 6 or 9 are a subset
_EXCLUDED_CAMERAS = (*range(3, 8), *range(16, 22), *range(36, 40))
ALL_34 = tuple(camera for camera in range(49) if camera not in _EXCLUDED_CAMERAS)
REGNERF_25 = tuple(camera for camera in ALL_34 if camera not in INPUT_ORDER)

SUBSETS: dict[str, tuple[int, ...]] = {
    **{str(num): tuple(sorted(INPUT_ORDER[:num])) for num in (1, 3, 6, 9)},
    "all34": ALL_34,
    "middle": tuple(range(12, 36)),
    "middle_by_2": tuple(range(12, 36, 2)),
    "middle_by_3": tuple(range(12, 36, 3)),
}

LIGHTINGS = ("0", "1", "2", "3", "4", "5", "6", "max")


def picture_name(camera: int, lighting: str) -> str:
    """The file name of a picture: rect_001_3_r5000.png for camera 0 under lighting 3."""
    return f"rect_{camera + 1:03d}_{lighting}{'' if lighting == 'max' else '_r5000'}.png"


def camera_of(name: str, lighting: str) -> int | None:
    """The camera of a picture of this lighting; None for other files."""
    number = name.removeprefix("rect_")[:3]
    camera = int(number) - 1 if number.isascii() and number.isdecimal() else -1
    return camera if camera >= 0 and name == picture_name(camera, lighting) else None
