"""models/training/meter.py: means between two lines of the log."""

import pytest
import torch

from models.training.meter import Meter


def test_a_report_holds_the_means_since_the_last_one():
    meter = Meter()
    meter.add(1, {"rgb": torch.tensor(1.0), "depth": torch.tensor(5.0)})
    meter.add(1, {"rgb": torch.tensor(2.0, requires_grad=True)})
    meter.add(2, {"rgb": torch.tensor(6.0)})
    means, times = meter.report()
    assert means == {"rgb": 3.0, "depth": 5.0}
    assert times["seconds"] >= 0
    meter.add(3, {"rgb": torch.tensor(7.0)})
    assert meter.report()[0] == {"rgb": 7.0}


def test_what_is_kept_does_not_hold_on_to_the_graph():
    meter, weight = Meter(), torch.ones(3, requires_grad=True)
    meter.add(1, {"rgb": (2 * weight).sum()})
    assert all(value.grad_fn is None for _, _, value in meter.entries)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_the_first_step_and_term_that_are_not_finite_are_named(value):
    meter = Meter()
    meter.add(7, {"rgb": torch.tensor(1.0), "depth": torch.tensor(2.0)})
    meter.add(8, {"rgb": torch.tensor(1.0), "depth": torch.tensor(value)})
    meter.add(9, {"rgb": torch.tensor(value), "depth": torch.tensor(1.0)})
    with pytest.raises(ValueError, match="step 8: 'depth' is not finite"):
        meter.report()


def test_times_say_which_share_of_them_was_spent_waiting_for_data():
    now = [100.0]
    meter = Meter(clock=lambda: now[0], images=5)

    def data():
        for number in range(3):
            now[0] += 1 + number  # the first takes one second, the next two, the last three
            yield number

    batches = meter.timed(data())
    assert [next(batches), next(batches)] == [0, 1]
    now[0] += 9  # the steps
    meter.add(1, {"rgb": torch.tensor(1.0)})
    assert meter.report()[1] == {
        "seconds": 12.0,
        "data_wait": pytest.approx(3 / 12),
        "images_per_second": pytest.approx(2 * 5 / 12),
    }
    assert list(batches) == [2]
    now[0] += 1
    meter.add(2, {"rgb": torch.tensor(1.0)})
    assert meter.report()[1] == {
        "seconds": 4.0,
        "data_wait": pytest.approx(3 / 4),
        "images_per_second": pytest.approx(5 / 4),
    }
    meter.add(3, {"rgb": torch.tensor(1.0)})
    assert meter.report()[1] == {"seconds": 0.0, "data_wait": 0.0, "images_per_second": 0.0}


def test_time_spent_on_previews_and_checkpoints_does_not_count():
    now = [100.0]
    meter = Meter(clock=lambda: now[0])
    batches = meter.timed(iter("abc"))
    for pause in (0.0, 30.0):
        next(batches)
        now[0] += 4
        with meter.pausing():
            now[0] += pause
        meter.add(1, {"rgb": torch.tensor(1.0)})
    assert meter.report()[1] == {"seconds": 8.0, "data_wait": 0.0, "images_per_second": 2 / 8}
    with meter.pausing():  # right after a report, as previews are
        now[0] += 50
    now[0] += 3
    meter.add(2, {"rgb": torch.tensor(1.0)})
    assert meter.report()[1]["seconds"] == 3
