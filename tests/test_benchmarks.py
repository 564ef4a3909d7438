"""The benchmark's own pieces: its statistics, its products, its workers, and a quick run from the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import epoch, machine, problem, race, tables
from benchmarks.contestants import convolutional, products
from benchmarks.parts import CONTESTANTS
from benchmarks.problem import Problem
from benchmarks.race import Burst, Entry, Spread, Worker
from gan_mnist.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
SMALL = ["model.generator.hidden=[8,8]", "model.discriminator.hidden=[8]", "data.batch_size=16"]


def network(*widths: int) -> problem.Layers:
    return [(np.zeros((width_out, width_in)), np.zeros(width_out)) for width_in, width_out in zip(widths, widths[1:])]


def course_problem(batch: int = 128) -> Problem:
    G, D = network(100, 128, 256, 512, 1024, 784), network(784, 512, 256, 1)
    return Problem(G, D, np.zeros((1, batch, 1, 28, 28)), np.zeros((1, batch, 100)), 2e-4, 0.5, 0.999)


def quiet(ms: float) -> Burst:
    return Burst(ms, cores=2.0, others=0.0)


def test_spread_of_known_values() -> None:
    assert Spread.of([5.0, 1.0, 2.0, 4.0, 3.0]) == Spread(median=3.0, least=1.0, quartile_1=2.0, quartile_3=4.0)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0, 7.0)


def test_a_ratio_compares_bursts_of_the_same_round() -> None:
    """Twice as slow in every round, while the machine's speed changes threefold between them."""
    rounds = [{"ours": quiet(ms), "theirs": quiet(2 * ms)} for ms in (10.0, 30.0, 20.0)]
    assert race.ratios(rounds, "theirs", "ours") == Spread(2.0, 2.0, 2.0, 2.0)
    assert race.times(rounds, "ours").median == 20.0


def test_rounds_that_others_disturbed_are_left_out() -> None:
    disturbed = {"ours": quiet(10.0), "theirs": Burst(50.0, cores=2.0, others=0.3)}
    calm = {"ours": quiet(10.0), "theirs": quiet(20.0)}
    unknown = {"ours": quiet(10.0), "theirs": Burst(20.0, cores=2.0, others=None)}
    assert race.kept([disturbed, calm, unknown]) == [calm, unknown]
    assert race.kept([disturbed]) == [disturbed], "the table then says that none was quiet"


def test_the_products_of_the_courses_step() -> None:
    """28 of them; the sum of 2 rows inner columns, written out."""
    g, d = 100 * 128 + 128 * 256 + 256 * 512 + 512 * 1024 + 1024 * 784, 784 * 512 + 512 * 256 + 256
    outputs_and_weights = 2 * (128 * g + 256 * d)
    input_gradients = 128 * (g - 100 * 128) + 256 * (d - 784 * 512)
    fakes_through_d = 2 * 128 * d
    operands, steps = products.products(course_problem())
    assert len(steps) == 28
    assert products.gigaflop(operands, steps) == pytest.approx(
        2e-9 * (outputs_and_weights + input_gradients + fakes_through_d)
    )


def test_every_product_fits() -> None:
    operands, steps = products.products(course_problem(batch=32))
    for product in steps:
        a, b = np.zeros(operands[product.a]), np.zeros(operands[product.b])
        result = (a.T if product.transpose_a else a) @ (b.T if product.transpose_b else b)
        what = "dy" if product.transpose_b else "w" if product.transpose_a else "x"  # Output, weights', input gradient.
        assert result.shape == operands[f"{product.a.split('.')[0]}.{what}"], product


def test_a_problem_survives_its_file(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    G, D = ([(random.normal(size=w.shape), b) for w, b in layers] for layers in course_problem()[:2])
    task = course_problem()._replace(generator=G, discriminator=D)
    problem.save(task, tmp_path / "problem.npz")
    loaded = problem.load(tmp_path / "problem.npz")
    for (weight, bias), (weight_read, bias_read) in zip([*task[0], *task[1]], [*loaded[0], *loaded[1]], strict=True):
        np.testing.assert_array_equal(weight, weight_read)
        np.testing.assert_array_equal(bias, bias_read)
    assert loaded.flat_x.shape == (1, 128, 784)
    assert loaded[4:] == (2e-4, 0.5, 0.999)


def test_different_mathematics_are_refused() -> None:
    ours = [[1.4, 0.7], [1.3, 0.8]]
    race.require_same_losses("close", [[1.4001, 0.7], [1.3, 0.8]], ours)
    with pytest.raises(UserError, match="wrong is not the same step: loss_g of step 1 is 0.810000, ours is 0.800000"):
        race.require_same_losses("wrong", [[1.4, 0.7], [1.3, 0.81]], ours)
    with pytest.raises(UserError, match="nan"):
        race.require_same_losses("broken", [[float("nan"), 0.7], [1.3, 0.8]], ours)


def test_busy_seconds_grow_with_work() -> None:
    before = machine.busy_seconds()
    if before is None:
        pytest.skip("no /proc/stat here")
    sum(range(10_000_000))
    after = machine.busy_seconds()
    assert after is not None and after - before > 0.05


COUNTING = """
import os, sys
from benchmarks.problem import Contestant

done = []

def build(path, *, threads, loss=0.7):
    print("a library's chatter")
    os.write(1, b"and from C++")
    extra = {"so_far": lambda at_least: {"steps": done, "enough": len(done) >= at_least}}
    return Contestant(done.append, lambda: (2 * loss, loss), {"counting": "1.0"}, extra)

def build_without_library(path, *, threads):
    import library_that_nobody_has

def build_badly(path, *, threads):
    sys.exit("it broke")
"""


@pytest.fixture
def counting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """A contestant that only notes its steps."""
    (tmp_path / "counting.py").write_text(COUNTING, encoding="utf-8")
    monkeypatch.chdir(tmp_path)  # `python -m` finds modules there.
    return Entry("counting", "counting:build")


def test_a_worker_does_the_steps_it_is_told(counting: Entry, tmp_path: Path) -> None:
    worker = Worker(counting, tmp_path / "problem.npz")
    assert worker.losses == [[1.4, 0.7]] * 10 and worker.versions == {"counting": "1.0"}
    answer = worker.ask("steps", count=3)
    assert answer["seconds"] > 0 and answer["cpu_seconds"] >= 0
    worker.ask("steps", count=2)
    assert worker.ask("so_far", at_least=15) == {"steps": list(range(15)), "enough": True}
    assert 1e6 < worker.ask("memory")["peak_bytes"] < 1e10
    worker.stop()
    assert worker.process.returncode == 0


def test_all_run_in_every_round_each_at_its_pace(counting: Entry, tmp_path: Path) -> None:
    entries = {"fast": counting, "slow": counting._replace(pace=4)}
    with race.started(entries, tmp_path / "problem.npz") as (workers, missing):
        rounds = race.race(workers, rounds=4, steps=8)
        steps = {name: len(worker.ask("so_far", at_least=0)["steps"]) for name, worker in workers.items()}
    assert not missing and [set(bursts) for bursts in rounds] == [{"fast", "slow"}] * 4
    # 10 checked steps; per burst a lead-in of 3 or 1, and 8 or 2 timed; a burst is run again if others were busy.
    assert (steps["fast"] - 10) % 11 == 0 and steps["fast"] >= 10 + 4 * 11
    assert (steps["slow"] - 10) % 3 == 0 and steps["slow"] >= 10 + 4 * 3


def test_a_missing_library_is_named(counting: Entry, tmp_path: Path) -> None:
    entries = {"ours": counting, "theirs": counting._replace(build="counting:build_without_library")}
    with race.started(entries, tmp_path / "problem.npz") as (workers, missing):
        assert list(workers) == ["ours"]
        assert missing == {"theirs": "library_that_nobody_has"}


def test_a_broken_contestant_is_named_with_its_last_words(counting: Entry, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="counting: its process ended with status 1: it broke"):
        Worker(counting._replace(build="counting:build_badly"), tmp_path / "problem.npz")


def test_no_race_between_different_mathematics(counting: Entry, tmp_path: Path) -> None:
    entries = {"ours": counting, "theirs": counting._replace(arguments={"loss": 0.71})}
    with (
        pytest.raises(UserError, match="theirs is not the same step: loss_d of step 0 is 1.420000, ours is 1.400000"),
        race.started(entries, tmp_path / "problem.npz"),
    ):
        pass


def benchmark(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("MS_", "GLOG_"))}
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), *arguments]
    return subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, timeout=120, check=False)


def test_a_quick_run(tmp_path: Path) -> None:
    """Our step, the library's layers, the course's script and the floor, on random images."""
    out = tmp_path / "result.json"
    only = ["ours", "library", "course", "floor"]
    flags = ["--quick", "--rounds", "2", "--steps", "3", "--only", ",".join(only), "--json", str(out)]
    process = benchmark(*flags, *SMALL, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    report = json.loads(out.read_text(encoding="utf-8"))
    contestants = report["race"]["contestants"]
    assert list(contestants) == only
    assert contestants["ours"]["ratio"] == {"median": 1.0, "least": 1.0, "quartile_1": 1.0, "quartile_3": 1.0}
    assert contestants["floor"]["losses"] is None
    assert len(contestants["course"]["losses"]) == 10
    assert contestants["course"]["largest_difference"] < 1e-3
    assert all(len(one["samples"]) == 2 and one["ms"]["least"] > 0 for one in contestants.values())
    assert report["race"]["products"]["count"] == 17
    assert report["machine"]["cores"] == len(machine.cores())
    assert tables.race_table(report["race"]) in process.stdout
    assert all(CONTESTANTS[name].about in process.stdout for name in only)


def test_an_epoch_through_the_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On random images, since MNIST is not there."""
    monkeypatch.chdir(tmp_path)
    data = epoch.data_override(tmp_path)
    training = epoch.train([*SMALL, *data, "data.limit=330"], epochs=4, folder=tmp_path)
    assert training.steps_per_epoch == 20
    assert len(training.epochs_s) == len(training.steps_s) == 2
    assert all(0 < steps < whole < 20 for steps, whole in zip(training.steps_s, training.epochs_s))
    assert all(0 < share < 1 for share in training.saving)
    assert 0.5 < training.first_step_s < 60
    assert 1e8 < training.peak_bytes < 1e10


def test_the_convolutional_problem_survives_its_file(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    task = convolutional.Problem(
        {"image_shape": [1, 28, 28], "smoothing": 0.1},
        [random.normal(size=(100, 98)), random.normal(size=(2, 1, 5, 5))],
        [random.normal(size=(2, 1, 5, 5))],
        np.zeros((1, 2, 1, 28, 28)),
        np.zeros((1, 2, 100)),
    )
    convolutional.save(task, tmp_path / "problem.npz")
    loaded = convolutional.load(tmp_path / "problem.npz")
    assert loaded.options == task.options
    for weight, read in zip([*task.generator, *task.discriminator], [*loaded.generator, *loaded.discriminator]):
        np.testing.assert_array_equal(weight, read)


def test_the_convolutional_table_names_what_is_left_out() -> None:
    spread = {"median": 0.25, "least": 0.2, "quartile_1": 0.2, "quartile_3": 0.3}
    ours = {"ms": 400.0, "ratio": spread | {"median": 1.0}}
    raced = {"missing": {}, "contestants": {"ours": ours, "torch-fused": {"ms": 100.0, "ratio": spread}}}
    alone = {"missing": {"torch-fused": "torch"}, "contestants": {"ours": ours}}
    table = tables.convolutions_table({"mnist_dcgan.yaml": raced})
    assert "| mnist_dcgan.yaml | 400 | 0.25 (0.20-0.30) |" in table and "Left out" not in table
    assert "Left out: torch-fused, since torch is not installed." in tables.convolutions_table({"emoji64.yaml": alone})


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--only=ours,caffe", "'caffe' is not known; known are: ours, library, course, torch"),
        ("--parts=races", "'races' is not known; known are: race, epoch, growth, convolutions"),
        ("--rounds=0", "'0' is not a positive whole number"),
    ],
)
def test_unknown_names_are_refused(argument: str, message: str, tmp_path: Path) -> None:
    process = benchmark(argument, cwd=tmp_path)
    assert process.returncode == 1
    assert message in process.stderr and len(process.stderr.splitlines()) == 1
