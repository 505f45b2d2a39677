"""Views for training out of a stretch of video: both ends, and some between them.

After Mitchel, Ryu and Sitzmann (arXiv:2510.13063). The first view is the reference of the others' poses: the
one whose larger distance to the two ends is smallest. The last is the target.
"""

import torch

LIKELIEST, SPREAD, LEAST = 0.7, 0.25, 0.2  # lengths of windows for several views, by their share of the range


def choose_views(num_views: int, num: int, longest: int | None, generator: torch.Generator) -> list[int]:
    """`num` different views of `num_views`: any, or with `longest` those of `window_views`."""
    if longest is None:
        return torch.randperm(num_views, generator=generator)[:num].tolist()
    return window_views(num_views, num, min(num_views, longest), generator)


def window_views(num_views: int, num: int, longest: int, generator: torch.Generator) -> list[int]:
    """`num` different views within at most `longest` consecutive ones of `num_views`.

    Two views are the ends of the window in either order, whose length is uniform; more are the ends and
    random ones between, the reference first, the others in random order.
    """
    lengths = torch.arange(num, longest + 1)
    share = (lengths - num) / max(1, longest - num)
    weight = LEAST + (1 - LEAST) * (-(((share - LIKELIEST) / SPREAD) ** 2)).exp()
    weight = torch.ones(len(lengths)) if num == 2 else weight
    length = int(lengths[torch.multinomial(weight, 1, generator=generator)])
    first = int(torch.randint(num_views - length + 1, (), generator=generator))
    between = torch.randperm(length - 2, generator=generator)[: num - 2] + 1
    frames = sorted([first, first + length - 1, *(first + between).tolist()])
    if num == 2:
        return frames if torch.rand((), generator=generator) < 0.5 else frames[::-1]
    reference, *others = [frames[place] for place in middle_first(frames)]
    return [reference, *(others[place] for place in torch.randperm(num - 1, generator=generator).tolist())]


def middle_first(frames: list[int]) -> list[int]:
    """Places of frames by their larger distance to the two ends, the least first; equals keep their order."""
    low, high = min(frames), max(frames)
    return sorted(range(len(frames)), key=lambda place: max(frames[place] - low, high - frames[place]))
