"""Work shared among processes: nothing is lost, whatever happens to one of them."""

import os
import signal
import time

import pytest

from scripts.common.process_pool import WorkerKilledError, available_cores, run_each


def double_or_fail(number: int) -> int:
    """2 n; but 3 is refused, 5 crashes the process and 7 never ends. Known to spawned processes by name."""
    if number == 3:
        raise ValueError("three is refused")
    if number == 5:
        os.kill(os.getpid(), signal.SIGSEGV)
    if number == 7:
        time.sleep(600)
    return 2 * number


class ForeignError(Exception):
    """One that cannot be made again from its arguments, as those of many packages cannot."""

    def __init__(self, *, reason: str):
        super().__init__(reason)


def fail_in_a_foreign_way() -> None:
    raise ForeignError(reason="strange")


@pytest.mark.parametrize("workers", [0, 2])
def test_every_task_is_done_once_and_errors_are_results(workers):
    results = dict(run_each(double_or_fail, [(0,), (1,), (2,), (3,), (4,)], workers=workers))
    assert [results[number] for number in (0, 1, 2, 4)] == [0, 2, 4, 8]
    assert isinstance(results[3], ValueError)
    assert str(results[3]) == "three is refused"


def test_a_crash_costs_its_own_result_only():
    results = dict(run_each(double_or_fail, [(5,), (1,), (2,), (5,), (4,)], workers=2, time_limit_s=60))
    assert [results[number] for number in (1, 2, 4)] == [2, 4, 8]
    assert all(isinstance(results[number], WorkerKilledError) for number in (0, 3))
    assert "native code" in str(results[0])


def test_an_endless_task_is_ended_and_the_next_one_begun():
    # No task that must be done in time: on a busy machine a process may take as long as this to begin.
    results = dict(run_each(double_or_fail, [(7,), (7,), (7,)], workers=2, time_limit_s=0.3))
    assert results.keys() == {0, 1, 2}
    assert all(isinstance(result, WorkerKilledError) for result in results.values())
    assert {str(result) for result in results.values()} == {"took longer than 0.3 seconds"}


def test_exceptions_of_any_making_come_through():
    ((_, error),) = run_each(fail_in_a_foreign_way, [()], workers=1)
    assert isinstance(error, RuntimeError)
    assert str(error) == "ForeignError: strange"


def test_no_tasks_need_no_processes():
    assert list(run_each(double_or_fail, [], workers=3)) == []
    assert available_cores() >= 1
