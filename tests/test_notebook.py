"""notebooks/: run from the first cell to the last on a small model, as it stands, but for what it loads."""

from pathlib import Path

import imageio.v2 as imageio
import nbformat
import pytest
from nbclient import NotebookClient

from tests.tiny_run import save_tiny_run, tiny_config

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "load_checkpoint.ipynb"


def execute(parameters: str) -> nbformat.NotebookNode:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    tagged[0].source += f"\n{parameters}"
    place = {"metadata": {"path": str(NOTEBOOK.parent)}}
    return NotebookClient(notebook, timeout=300, kernel_name="python3", resources=place).execute()


def printed_and_shown(notebook: nbformat.NotebookNode) -> tuple[str, int]:
    """All that was printed, and the number of pictures."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "".join(output.text for output in outputs if output.output_type == "stream")
    return text, sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize("with_photo", [False, True])
def test_the_notebook_runs_from_the_first_cell_to_the_last(with_photo, tmp_path, plant_object):
    objects = tmp_path / "set"
    car = plant_object(objects / "cars_test" / "car", num_views=3, size=(9, 9))
    run = save_tiny_run(tiny_config(objects, tmp_path / "runs"))
    film = tmp_path / "film.mp4"
    parameters = f"CHECKPOINT, NUM_VIEWS, FILM = {str(run)!r}, 3, {str(film)!r}"
    if with_photo:
        parameters += f"\nPHOTO, CAMERA = {str(car / 'rgb/000001.png')!r}, {str(car / 'pose/000001.txt')!r}"
    text, num_pictures = printed_and_shown(execute(parameters))
    assert "after 7 steps, for pictures of 32 x 32" in text
    assert "(1, 1, 2, 4, 32, 32)" in text  # the volume
    assert "(1, 3, 4, 8, 8)" in text  # latent images
    assert num_pictures == 4  # photo, surfaces, channels, views
    with imageio.get_reader(film) as frames:
        sizes = {frame.shape for frame in frames}
        assert frames.count_frames() == 3
    assert sizes == {(128, 256, 3)}  # sample and preview side by side, enlarged four times


def test_the_notebook_is_committed_without_results():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
