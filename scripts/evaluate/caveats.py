"""Notes below the table that qualify the figures."""

from collections.abc import Sequence

from scripts.evaluate.aggregation import Row
from scripts.evaluate.metrics.masked import MEASURED, PAIR_METRICS
from scripts.evaluate.plan import Evaluation
from scripts.evaluate.protocols import DTU_SCENES

ABOUT = {
    "ssim": "SSIM: Gaussian window of 11 pixels, sigma 1.5, each colour channel (torchmetrics).",
    "ssim_7x7": "SSIM 7x7: uniform window, sample covariance, each colour channel; scikit-image's default, "
    "as in pixelNeRF's evaluation.",
    "stlpips": "stLPIPS: the shift-tolerant LPIPS of Ghildyal and Liu 2022; not the LPIPS of papers.",
    "lpips_vgg": "LPIPS-VGG: version 0.1 (torchmetrics).",
    "dists": "DISTS: torchmetrics.",
}


def notes_of(
    evaluation: Evaluation, rows: Sequence[Row], metrics: Sequence[str], best_of: int | None
) -> list[str]:
    """Deviations from the protocol first, then how views were sampled and measured."""
    return [
        *_deviations(evaluation),
        *_drawing(evaluation, best_of),
        *_infinite(rows),
        "Images were written as 8-bit PNG and read back; means are over views, then over objects.",
        *(ABOUT[name] for name in metrics if name in ABOUT),
        *(_masks(evaluation) if evaluation.protocol.masked else []),
    ]


def _deviations(evaluation: Evaluation) -> list[str]:
    """How the evaluation differs from that of papers."""
    protocol, setup = evaluation.protocol, evaluation.setup
    size, num_objects, of = setup["image_size"], len(evaluation.tasks), len(evaluation.objects)
    counts = sorted({evaluation.objects.num_views(task.index) for task in evaluation.tasks})
    found = []
    if protocol.image_size and size != protocol.image_size:
        found.append(f"pictures of {size} x {size} pixels, not {protocol.image_size} x {protocol.image_size}")
    if num_objects < of:
        found.append(f"{num_objects} of {of} objects")
    if counts != [protocol.num_views]:
        span = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else counts[0]
        found.append(f"objects of {span} views, not {protocol.num_views}")
    if protocol.masked and of != DTU_SCENES:
        found.append(f"{of} scenes, not {DTU_SCENES}")
    if setup["views"] != "all":
        found.append(f"{setup['views']} evenly spaced target views instead of all")
    if setup["input_views"] != protocol.shown_inputs:
        found.append(f"input views {setup['input_views']}, not {protocol.shown_inputs}")
    if setup["split"] not in ("test", protocol.objects):
        found.append(f"the {setup['split']} split")
    return [f"NOT the whole protocol, so not to be set beside published figures: {'; '.join(found)}."] * bool(
        found
    )


def _masks(evaluation: Evaluation) -> list[str]:
    """How pictures were measured with masks."""
    setup = evaluation.setup
    height, width = MEASURED
    lines = [
        f"Masked and unmasked: pictures resized to {width} x {height} by torchvision's bicubic filter "
        f"{'with' if setup['antialias'] else 'without'} antialiasing (published: without). Masked SSIM and "
        "LPIPS are of whole pictures that are black outside the mask, which raises SSIM; masked PSNR is of "
        "the pixels in the mask alone.",
        f"Choice of views of the first table and of the sheets: {next(iter(evaluation.tasks[0].choices))}.",
    ]
    if setup["dtu"]["missing_masks"] == "white":
        masks = (
            evaluation.objects.raw.mask(task.index, view)
            for task in evaluation.tasks
            for view in task.targets
        )
        missing = sum(mask is None for mask in masks)
        lines += [f"{missing} views have no mask and count as the object everywhere."] * bool(missing)
    return lines


def _drawing(evaluation: Evaluation, best_of: int | None) -> list[str]:
    setup, sample, seeds = evaluation.setup, evaluation.config.sample, evaluation.num_seeds
    num_views = sum(len(task.targets) for task in evaluation.tasks)
    first = evaluation.objects.raw.place(evaluation.tasks[0].index)
    lines = [
        f"{len(evaluation.tasks)} objects ({setup['split']}; the first is {first}), {num_views} views, "
        f"input views {setup['input_views']}.",
        f"Samples: {sample.sampler}{' with churn' if sample.stochastic else ''}, {sample.steps} steps, "
        f"guidance {sample.guidance:g}; of every view one from each of the seeds "
        f"{', '.join(str(setup['seed'] + number) for number in range(seeds))}, none of them chosen.",
    ]
    if seeds > 1:
        lines.append(f"± is the standard deviation over {seeds} seeds.")
    if best_of:
        lines.append(
            f"'best of {best_of}' selects the sample of every view that is closest to the ground truth: it "
            "is no figure of the model, and not comparable with figures of single samples."
        )
    return lines


def _infinite(rows: Sequence[Row]) -> list[str]:
    """The number of figures that are not finite."""
    found = [
        f"{figure.left_out} of {PAIR_METRICS[name].title.split()[0]}, {row.title}"
        for row in rows
        for name, figure in row.figures.items()
        if name in PAIR_METRICS and figure.left_out
    ]
    found += [f"all of PSNR, {row.title}" for row in rows if "psnr" not in row.figures]
    if not found:
        return []
    return [f"Left out of the means, because the pictures equal the truth: {'; '.join(found)}."]
