"""Plans draw every view once, beside the views that they name."""

import pytest

from models.stable_diffusion.planner import steps_of


def steps(plan, num, chunk=None, neighbours="input+previous", unconditional=False):
    return list(steps_of(plan, num, chunk=chunk, neighbours=neighbours, unconditional=unconditional))


@pytest.mark.parametrize("plan", ["all", "chunked", "autoregressive", "groups"])
@pytest.mark.parametrize("unconditional", [False, True])
@pytest.mark.parametrize("num", [1, 2, 7, 251])
def test_every_view_is_drawn_once_and_looks_at_finished_ones_alone(plan, unconditional, num):
    done = []
    for step in steps(plan, num, chunk=3, unconditional=unconditional):
        assert set(step.finished) <= set(done)
        assert len(set(step.finished)) == len(step.finished)
        assert not (unconditional and step.photos)
        done += step.new
    assert done == list(range(num))


def test_chunks_look_at_photos_and_the_chunk_before():
    both, previous, photo = (
        steps("chunked", 5, 2, neighbours) for neighbours in ("input+previous", "previous", "input")
    )
    assert [step.finished for step in both] == [(), (0, 1), (2, 3)]
    assert [step.finished for step in previous] == [step.finished for step in both]
    assert [step.finished for step in photo] == [(), (), ()]
    assert [step.photos for step in (*both, *previous, *photo)] == [True] * 3 + [False] * 3 + [True] * 3


def test_chunks_have_eight_views_and_unconditional_groups_two():
    assert [len(step.new) for step in steps("chunked", 20)] == [8, 8, 4]
    assert [step.new for step in steps("chunked", 5, unconditional=True)] == [(0, 1), (2, 3), (4,)]
    assert all(not step.finished for step in steps("chunked", 5, unconditional=True))
    assert all(not (step.finished or step.photos) for step in steps("groups", 20))


def test_a_view_drawn_alone_looks_at_the_last_one_and_up_to_four_before():
    found = steps("autoregressive", 12)
    assert [step.finished for step in found[:6]] == [tuple(range(view)) for view in range(6)]
    for view, step in enumerate(found[6:], 6):
        assert len(step.finished) == 5
        assert step.finished[-1] == view - 1
    assert len({step.finished[:-1] for step in found[6:]}) > 1
