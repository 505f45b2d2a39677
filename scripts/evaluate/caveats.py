"""Notes below the table that qualify the figures."""

from collections.abc import Sequence

from scripts.evaluate.aggregation import Row
from scripts.evaluate.metrics.metrics import METRICS
from scripts.evaluate.plan import Evaluation

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
    ]


def _deviations(evaluation: Evaluation) -> list[str]:
    """How the evaluation differs from that of papers."""
    protocol, setup = evaluation.protocol, evaluation.setup
    size, num_objects, of = setup["image_size"], len(evaluation.tasks), len(evaluation.objects)
    counts = sorted({evaluation.objects.num_views(task.index) for task in evaluation.tasks})
    found = []
    if size != protocol.image_size:
        found.append(f"pictures of {size} x {size} pixels, not {protocol.image_size} x {protocol.image_size}")
    if num_objects < of:
        found.append(f"{num_objects} of {of} objects")
    if counts != [protocol.num_views]:
        span = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else counts[0]
        found.append(f"objects of {span} views, not {protocol.num_views}")
    if setup["views"] != "all":
        found.append(f"{setup['views']} evenly spaced target views instead of all")
    if setup["input_views"] != protocol.shown_inputs:
        found.append(f"input views {setup['input_views']}, not {protocol.shown_inputs}")
    if setup["split"] not in ("test", protocol.objects):
        found.append(f"the {setup['split']} split")
    return [f"NOT the whole protocol, so not to be set beside published figures: {'; '.join(found)}."] * bool(
        found
    )


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
        f"{figure.left_out} of {METRICS[name].title.split()[0]}, {row.title}"
        for row in rows
        for name, figure in row.figures.items()
        if name in METRICS and figure.left_out
    ]
    found += [f"all of PSNR, {row.title}" for row in rows if "psnr" not in row.figures]
    if not found:
        return []
    return [f"Left out of the means, because the pictures equal the truth: {'; '.join(found)}."]
