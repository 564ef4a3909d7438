"""Where MindSpore's computing threads run."""

import os

import pytest

from gan_mnist import runtime


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Pretend cores and threads; returns what the threads were bound to, by name."""
    bound = {}

    def pretend(*, cores, threads):
        for number, name in threads.items():
            (tmp_path / str(number)).mkdir()
            (tmp_path / str(number) / "comm").write_text(f"{name}\n")
        monkeypatch.setattr(runtime, "THREADS", tmp_path)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores, raising=False)
        monkeypatch.setattr(
            os, "sched_setaffinity", lambda thread, to: bound.update({threads[thread]: to}), raising=False
        )
        return bound

    return pretend


THREADS = {7: "python", 9: "frontend_queue", 12: "ActorThread_0", 13: "KernelThread_0"}


def test_two_computing_threads_get_a_core_each_of_those_allowed(machine):
    bound = machine(cores={3, 5}, threads=THREADS)
    runtime.part_threads()
    assert bound.keys() == {"ActorThread_0", "KernelThread_0"}  # Python's own threads stay free.
    assert sorted(map(tuple, bound.values())) == [(3,), (5,)]


@pytest.mark.parametrize(
    ("cores", "threads"),
    [
        ({0}, THREADS),
        ({0, 1, 2, 3}, THREADS),
        ({0, 1}, {12: "ActorThread_0"}),
        ({0, 1}, {12: "ActorThread_0", 13: "ActorThread_1", 14: "KernelThread_0"}),
    ],
)
def test_otherwise_they_run_where_they_like(machine, cores, threads):
    bound = machine(cores=cores, threads=threads)
    runtime.part_threads()
    assert bound == {}


def test_nothing_happens_where_threads_cannot_be_bound(monkeypatch):
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    runtime.part_threads()


def test_a_thread_that_has_ended_is_no_trouble(machine, monkeypatch):
    machine(cores={0, 1}, threads=THREADS)

    def gone(thread, cores):
        raise ProcessLookupError

    monkeypatch.setattr(os, "sched_setaffinity", gone, raising=False)
    runtime.part_threads()
