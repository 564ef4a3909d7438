"""Learning rates and momenta over time."""

import math

import numpy as np
import pytest

from gan_mnist.config import Config, Model, Optimizer, Schedule, Train
from gan_mnist.game import build_game
from gan_mnist.schedules import learning_rates, momentum

EPOCHS, STEPS = 4, 25


def rates(**schedule: object) -> np.ndarray:
    options = Optimizer(lr=2e-3, schedule=Schedule(**schedule))
    return learning_rates(options, epochs=EPOCHS, steps_per_epoch=STEPS)


def slow(t: int, name: str, final: float = 0.0, decay: float = 0.5, every: int = 50) -> float:
    """The shape of a schedule at one step, as the textbook says it."""
    p = t / (EPOCHS * STEPS)
    if name == "linear":
        return (1 - p) * 1 + p * final
    if name == "cosine":
        return final + (1 - final) * math.cos(math.pi * p / 2) ** 2
    shape = 1.0
    for _ in range(t if name == "exponential" else t // STEPS // every):
        shape *= decay
    return max(shape, final)


@pytest.mark.parametrize(
    "schedule",
    [
        {"name": "constant"},
        {"name": "linear"},
        {"name": "linear", "final": 0.1},
        {"name": "cosine"},
        {"name": "cosine", "final": 0.3},
        {"name": "exponential", "decay": 0.99},
        {"name": "exponential", "decay": 0.9, "final": 0.2},
        {"name": "step", "every": 1},
        {"name": "step", "every": 3, "decay": 0.1},
    ],
)
def test_every_schedule_has_its_shape(schedule: dict[str, object]) -> None:
    expected = [1.0 if schedule["name"] == "constant" else slow(t, **schedule) for t in range(EPOCHS * STEPS)]
    np.testing.assert_allclose(rates(**schedule), 2e-3 * np.array(expected), rtol=1e-12)


def test_warm_up_rises_linearly_and_ends() -> None:
    warm, cold = rates(name="cosine", warmup=10), rates(name="cosine")
    np.testing.assert_allclose(warm[:10], cold[:10] * np.arange(1, 11) / 10)
    np.testing.assert_array_equal(warm[10:], cold[10:])


def test_a_constant_rate_is_the_configured_number_itself() -> None:
    assert set(rates().tolist()) == {2e-3}


def test_momentum_moves_linearly_and_stays() -> None:
    options = Optimizer(name="momentum", momentum=0.5, final_momentum=0.7, momentum_epochs=4)
    assert [momentum(options, epoch) for epoch in range(6)] == pytest.approx([0.5, 0.55, 0.6, 0.65, 0.7, 0.7])
    assert momentum(Optimizer(momentum=0.9), 100) == 0.9


def test_every_update_has_its_rate_where_a_step_has_several() -> None:
    settings = Config(
        train=Train(epochs=2, d_steps=3),
        optim_d=Optimizer(lr=1.0, schedule=Schedule(name="linear")),
        model=Model(generator={"hidden": [4]}, discriminator={"hidden": [4]}),
    )
    game = build_game(settings, (1, 4, 4), steps_per_epoch=5)
    assert (len(game.rates_d), len(game.rates_g)) == (30, 10)
    for step in range(10):
        assert game.rates(step) == {"lr_d": pytest.approx(1 - step / 10), "lr_g": 2e-4}
