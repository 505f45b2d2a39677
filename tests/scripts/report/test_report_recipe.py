"""The report of a recipe: its stages on one axis, each with its figures and what is new in its config."""

import json

import numpy as np
import pytest

from scripts.report.read_run import read_run
from tests.scripts.report.made_runs import chart_of, figure_of, lines, make, numbers, plant_run, points_of


def test_a_recipe_counts_through_its_stages(tmp_path):
    data = ({"image_size": 16}, {"image_size": 16, "views": 3}, {"image_size": 48})
    folder, names = tmp_path / "recipe", ("1_volumes", "2_joint", "10_grown")
    for number, (name, part) in enumerate(zip(names, data, strict=True)):
        rows = [row | {"loss": row["loss"] + number} for row in lines(5 - number)]
        plant_run(
            folder / name, rows, data=part, pictures={20: (20, 32)}, warnings=[(30, f"beware of {name}")]
        )
    page = make(folder)
    figure = figure_of(folder, "Loss")
    points = points_of(figure, num_series=3)
    # The third stage, of 50 steps, is at step 30.
    assert points[:, 0].tolist() == [10, 20, 30, 40, 50, 60, 70, 80, 90, 110, 120, 130]
    np.testing.assert_allclose(points[[0, 5, 9], 1], [1.7, 2.7, 3.7])
    assert len(figure.axes[0].get_lines()) == 3 * 3  # no line leads from one stage to the next
    names = [text for text in figure.axes[0].texts if not text.get_url()]
    assert [(name.get_text().strip(), name.get_position()[0]) for name in names] == [
        ("1 volumes", 0), ("2 joint", 50), ("10 grown", 100)
    ]  # fmt: skip
    assert "10 grown" in chart_of(page, "Loss").all("svg")[0].text
    table = page.with_id("figures").all("tbody")[0].all("tr")
    assert [row.all("th")[0].text for row in table] == ["1 volumes", "2 joint", "10 grown"]
    assert [row.all("td")[0].text for row in table] == ["50", "40 of 50", "30 of 50"]
    assert [row.all("td")[3].text for row in table] == ["16", "16", "48"]
    changes = [
        row.all("td") for one in page.with_id("config").all("table") for row in one.all("tbody")[0].all("tr")
    ]
    assert [[cell.text for cell in row] for row in changes] == [
        ["data.views", "", "3"], ["data.image_size", "16", "48"], ["data.views", "3", ""]
    ]  # fmt: skip
    assert [json.loads(one.text)["data"] for one in page.all("pre")] == list(data)
    assert [row.all("td")[1].text for row in page.with_id("warnings").all("tbody")[0].all("tr")] == [
        "30",
        "80",
        "130",
    ]
    assert [one.text for one in page.all("ol", "film")[0].all("span")] == ["step 20", "step 70", "step 120"]
    assert page.all("figcaption")[0].text == "Step 120, stage 10 grown"
    assert "in stage 10 grown" in page.all("p", "state")[0].text


@pytest.mark.parametrize(
    "stages",
    [["1_a", "2_b", "3_c"], {"a": {}, "b": {}, "c": {}}, [{"name": "1_a"}, {"name": "2_b"}, {"name": "3_c"}]],
)
def test_stages_that_are_planned_have_a_row_and_leave_the_run_unfinished(tmp_path, stages):
    for name in ("1_a", "2_b"):
        plant_run(tmp_path / "recipe" / name, lines())
    assert read_run(tmp_path / "recipe").state() == "finished"
    (tmp_path / "recipe" / "recipe.json").write_text(json.dumps({"stages": stages}))
    run = read_run(tmp_path / "recipe")
    assert [stage.label for stage in run.stages] == ["1 a", "2 b", "3 c"]
    assert run.state() == "running"
    page = make(tmp_path / "recipe")
    rows = page.with_id("figures").all("tbody")[0].all("tr")
    assert [row.all("th")[0].text for row in rows] == ["1 a", "2 b", "3 c"]
    assert numbers(rows[2]) == []


def test_a_stage_can_be_reported_alone(tmp_path):
    plant_run(tmp_path / "recipe" / "1_a", lines())
    plant_run(tmp_path / "recipe" / "2_b", lines(3))
    page = make(tmp_path / "recipe" / "2_b")
    assert page.all("h1")[0].text == "2_b"
    assert "2 b" not in chart_of(page, "Loss").text
