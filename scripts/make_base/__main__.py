"""Make a small Stable Diffusion base without a network, so that its families train and sample for real.

    python -m scripts.make_base --out bases/cars
    python -m scripts.make_base --out bases/draft --cars 100 --vae-steps 200 --unet-steps 200

Renders procedural cars with captions such as "an object: a red sedan, front left view, high camera", trains
a VAE (one latent for 4x4 pixels), then a U-Net with a text encoder on its latents (10 % of captions are
empty), and writes OUT in the layout of diffusers: give it as model.base.path. OUT/figures.json has the PSNR
of encoding and decoding held-out cars, which bounds whatever is trained on this base, and measures of the
effect of the text; OUT/contact_sheet.png shows cars, reconstructions and samples.
Work in progress is in OUT.unfinished. The same command continues it, with the same result as if it had never
been interrupted, and OUT appears only when it is complete.
"""

import argparse
import sys
from pathlib import Path

from scripts.common.command_line import OneLineParser, number_between
from scripts.make_base.options import BaseOptions


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and make the base; returns the exit code."""
    given = _parser().parse_args(arguments)
    options = BaseOptions(given.cars, vae_steps=given.vae_steps, unet_steps=given.unet_steps, seed=given.seed)
    return run(given.out, options)


def run(out: Path, options: BaseOptions) -> int:
    """Make the base and print its figures; returns the exit code."""
    from models.training.interruption import StopSignal
    from scripts.make_base.base import make_base
    from scripts.make_base.training import StoppedError

    try:
        with StopSignal() as stop:
            figures = make_base(out, options, stop, lambda text: print(text, file=sys.stderr))
    except ValueError as error:
        print(f"make_base: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        named = f"cannot write {error.filename}: {error.strerror}" if error.filename else f"{error}"
        print(f"make_base: {named}", file=sys.stderr)
        return 2
    except (StoppedError, KeyboardInterrupt):
        print("make_base: stopped; the same command continues where this one ended", file=sys.stderr)
        return 1
    samples, errors = figures["samples"], figures["velocity_error"]
    print(f"reconstruction of held-out cars: PSNR {figures['reconstruction_psnr_db']:.2f} dB")
    print("velocity error: " + ", ".join(f"{name} {error:.4f}" for name, error in errors.items()))
    for kind in ("colour", "azimuth"):
        share, chance = samples[f"right_{kind}"], samples[f"chance_{kind}"]
        print(f"samples of the right {kind}: {share:.0%} of {samples['number']} (chance {chance:.0%})")
    print(f"{out}: complete; use it as model.base.path={out}, see {out / 'contact_sheet.png'}")
    return 0


def _parser() -> argparse.ArgumentParser:
    count = number_between(int, 1, 10_000_000)
    kind = argparse.RawDescriptionHelpFormatter
    parser = OneLineParser(prog="python -m scripts.make_base", description=__doc__, formatter_class=kind)
    usual = BaseOptions()
    parser.add_argument("--out", type=Path, default=Path("bases/cars"), help="folder to write (%(default)s)")
    cars = f"cars to learn, {usual.views} views each (%(default)s)"
    parser.add_argument("--cars", type=count, default=usual.cars, metavar="N", help=cars)
    vae = f"training steps of the VAE, {usual.vae_batch} images each (%(default)s)"
    parser.add_argument("--vae-steps", type=count, default=usual.vae_steps, metavar="N", help=vae)
    unet = f"training steps of the U-Net, {usual.unet_batch} images each (%(default)s)"
    parser.add_argument("--unet-steps", type=count, default=usual.unet_steps, metavar="N", help=unet)
    seed = "of cameras, weights and noise (%(default)s)"
    parser.add_argument("--seed", type=number_between(int, 0, 2**31), default=0, metavar="N", help=seed)
    return parser


if __name__ == "__main__":
    sys.exit(main())
