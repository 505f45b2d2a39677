"""scripts/view/render_thread.py: one thread, everybody's turn, and no stale pictures."""

import threading
import time
from collections import deque
from collections.abc import Callable

import pytest

from scripts.view.render_thread import Worker

PATIENCE_S = 300.0


class Fake:
    """A client that writes down what is done for it."""

    def __init__(self, worker: Worker, record: list, name: str, seconds: float = 0.0):
        self.worker, self.record, self.name, self.seconds = worker, record, name, seconds
        self.camera, self.shown, self.rested = 0, 0, 0
        self.rest_at = float("inf")
        self.jobs: deque = deque()
        self.quick: deque = deque()
        self.errors: list[Exception] = []

    def move(self, rest_after: float = 1e9) -> None:
        with self.worker.changed:
            self.camera += 1
            self.rest_at = time.monotonic() + rest_after
            self.worker.changed.notify_all()

    def ask(self, job: Callable[[], None]) -> None:
        with self.worker.changed:
            self.jobs.append(job)
            self.worker.changed.notify_all()

    def job(self, *, quick: bool):
        jobs = self.quick if quick else self.jobs
        return jobs.popleft() if jobs else None

    def frame(self, now: float, *, moving: bool):
        camera = self.camera
        if moving:
            return None if self.shown == camera else lambda: self._show(camera)
        if self.rested == camera or self.rest_at == float("inf"):
            return None
        return self.rest_at if now < self.rest_at else lambda: self._rest(camera)

    def failed(self, error: Exception) -> None:
        self.errors.append(error)

    def _show(self, camera: int) -> None:
        time.sleep(self.seconds)
        self.record.append((self.name, camera))
        self.shown = camera

    def _rest(self, camera: int) -> None:
        self.record.append((self.name, f"{camera} at rest"))
        self.rested = camera


@pytest.fixture
def worker():
    worker = Worker()
    worker.start()
    yield worker
    worker.stop()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def test_cameras_that_were_left_behind_are_never_rendered(worker):
    record: list = []
    client = Fake(worker, record, "a", seconds=0.02)
    worker.add(client)
    for _ in range(200):
        client.move()
        time.sleep(0.0005)
    until(lambda: client.shown == 200)
    assert record[-1] == ("a", 200)
    assert len(record) < 60
    assert [camera for _, camera in record] == sorted({camera for _, camera in record})


def test_clients_that_move_all_the_time_take_turns(worker):
    record: list = []
    clients = [Fake(worker, record, name, seconds=0.003) for name in "abc"]
    for client in clients:
        worker.add(client)
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        for client in clients:
            client.move()
        time.sleep(0.001)
    counts = [sum(name == one.name for name, _ in record) for one in clients]
    assert min(counts) > 0.5 * max(counts) > 0


def test_a_camera_at_rest_gets_its_better_picture_once(worker):
    record: list = []
    client = Fake(worker, record, "a")
    worker.add(client)
    client.move(rest_after=0.05)
    until(lambda: client.rested == 1)
    time.sleep(0.1)
    assert record == [("a", 1), ("a", "1 at rest")]


def test_pictures_go_on_between_the_steps_of_long_work(worker):
    record: list = []
    one, two = Fake(worker, record, "one"), Fake(worker, record, "two")
    worker.add(one)
    worker.add(two)
    moved, steps = threading.Event(), []

    def long_work() -> None:
        moved.wait(PATIENCE_S)
        two.quick.append(lambda: record.append(("two", "quick")))
        for step in range(3):
            worker.breathe()
            steps.append((step, list(record)))

    one.ask(long_work)
    one.move()
    two.move()
    moved.set()
    until(lambda: len(steps) == 3)
    assert sorted(steps[0][1]) == [("one", 1), ("two", "quick")]
    assert steps[1][1][2:] == steps[2][1][2:] == [("two", 1)]


def test_an_error_is_told_to_its_client_and_the_others_go_on(worker):
    record: list = []
    bad, good = Fake(worker, record, "bad"), Fake(worker, record, "good")
    worker.add(bad)
    worker.add(good)

    def fail() -> None:
        raise KeyError("broken")

    bad.ask(fail)
    good.move()
    bad.move()
    until(lambda: good.shown == bad.shown == 1)
    assert [type(error) for error in bad.errors] == [KeyError]
    assert good.errors == []


@pytest.mark.parametrize("method", ["job", "frame"])
def test_a_client_that_cannot_say_what_it_wants_holds_up_nobody(worker, method: str):
    record: list = []
    bad, good = Fake(worker, record, "bad"), Fake(worker, record, "good")

    def fail(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("views a second")

    setattr(bad, method, fail)
    worker.add(bad)
    worker.add(good)
    for camera in (1, 2):
        good.move()
        until(lambda camera=camera: good.shown == camera)
    good.ask(worker.breathe)
    good.ask(lambda: record.append("breathed"))
    until(lambda: "breathed" in record)
    assert {type(error) for error in bad.errors} == {ZeroDivisionError}
    assert good.errors == []
    time.sleep(0.05)
    num = len(bad.errors)
    time.sleep(0.2)
    assert len(bad.errors) == num  # it is not asked again and again


def test_nothing_more_is_done_for_a_client_that_left(worker):
    record: list = []
    client = Fake(worker, record, "a")
    worker.add(client)
    worker.remove(client)
    worker.remove(client)
    client.move()
    time.sleep(0.05)
    assert record == []


def test_a_turn_without_an_end_is_left_behind(monkeypatch):
    monkeypatch.setattr("scripts.view.render_thread.PATIENCE_S", 0.05)
    worker, begun, end = Worker(), threading.Event(), threading.Event()
    worker.start()
    client = Fake(worker, [], "a")
    worker.add(client)
    client.ask(lambda: (begun.set(), end.wait(PATIENCE_S)))
    assert begun.wait(PATIENCE_S)
    worker.stop()
    assert worker._thread.is_alive()
    end.set()
    until(lambda: not worker._thread.is_alive())


def test_a_worker_that_was_stopped_has_no_thread_left():
    before = threading.active_count()
    worker = Worker()
    worker.start()
    assert threading.active_count() == before + 1
    worker.stop()
    assert threading.active_count() == before
