"""Packages that take long to import wait until they are needed, so that --help answers at once."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
import diffusion.augment, diffusion.denoiser, diffusion.samplers, nerf.fused.render

assert not {'k_diffusion', 'triton'} & set(sys.modules)
import models.genvs.model

assert 'segmentation_models_pytorch' not in sys.modules
diffusion.samplers.karras_sigmas(diffusion.samplers.SampleOptions())
assert 'k_diffusion' in sys.modules
"""


def test_heavy_packages_are_imported_on_first_use_and_silently():
    root = Path(__file__).resolve().parents[1]
    finished = subprocess.run([sys.executable, "-c", PROGRAM], cwd=root, capture_output=True, text=True)
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")
