"""What a step may do beyond one update of each: against the game written out in NumPy, descending by differences."""

from collections.abc import Callable

import mindspore as ms
import numpy as np
import pytest

from gan_mnist.config import Loss, Optimizer
from gan_mnist.losses import make_loss
from gan_mnist.models import NetworkSpec, build_network
from gan_mnist.steps import Rules, make_optimizer, make_train_step

N, LATENT, IMAGE, CLASSES, LR = 6, 4, (1, 3, 3), 3, 0.05

Weights = list[np.ndarray]


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


class Game:
    """G: Dense, ReLU, Dense, Tanh. D: Dense, LeakyReLU(0.2), Dense. Both descend along central differences."""

    def __init__(self, G: Weights, D: Weights, options: Loss, pack: int = 1) -> None:
        self.G, self.D, self.options, self.pack = G, D, options, pack

    def draw(self, z: np.ndarray) -> np.ndarray:
        weight1, bias1, weight2, bias2 = self.G
        return np.tanh(np.maximum(z @ weight1.T + bias1, 0) @ weight2.T + bias2)

    def logits(self, images: np.ndarray, told: np.ndarray) -> np.ndarray:
        """Of images (N, 9), or packs of them, told their classes (N, classes)."""
        weight1, bias1, weight2, bias2 = self.D
        hidden = np.hstack([images, told]) @ weight1.T + bias1
        return np.where(hidden > 0, hidden, 0.2 * hidden) @ weight2.T + bias2

    def steepness(self, images: np.ndarray, told: np.ndarray) -> np.ndarray:
        """|grad D|^2 at each image; what D is told does not vary."""
        weight1, bias1, weight2, _ = self.D
        slopes = np.where(np.hstack([images, told]) @ weight1.T + bias1 > 0, 1.0, 0.2)
        return (((slopes * weight2) @ weight1[:, : images.shape[1]]) ** 2).sum(axis=1)

    def loss_d(self, x: np.ndarray, fake: np.ndarray, told: np.ndarray, moves: np.ndarray, mix: np.ndarray) -> float:
        x, fake = x.reshape(len(x) // self.pack, -1), fake.reshape(len(fake) // self.pack, -1)
        real, generated = self.logits(x, told), self.logits(fake, told)
        if self.options.name == "wasserstein_gp":
            value = generated.mean() - real.mean()
            weight = 10.0 if self.options.gradient_penalty is None else self.options.gradient_penalty
        else:
            target = 1 - self.options.smoothing + self.options.label_noise * (2 * moves - 1)
            value = (target * softplus(-real) + (1 - target) * softplus(real)).mean() + softplus(generated).mean()
            weight = self.options.gradient_penalty or 0.0
        value += self.options.r1 / 2 * self.steepness(x, told).mean()
        between = x + mix * (fake - x)
        return float(value + weight * ((np.sqrt(self.steepness(between, told)) - 1) ** 2).mean())

    def loss_g(self, z: np.ndarray, told: np.ndarray, noise: np.ndarray) -> float:
        fake = (self.draw(z) + noise).reshape(len(z) // self.pack, -1)
        logits = self.logits(fake, told)
        return float(-logits.mean() if self.options.name == "wasserstein_gp" else softplus(-logits).mean())

    def unorthogonal(self) -> float:
        """Brock et al. 2019, equation 3: squared products of different rows."""
        products = [weight @ weight.T for weight in (self.G[0], self.G[2])]
        return self.options.orthogonal * sum(float((p**2).sum() - (np.diag(p) ** 2).sum()) for p in products)

    def descend(self, weights: Weights, loss: Callable[[], float], decay: float = 0.0) -> float:
        gradients = []
        for array in weights:
            gradient = np.zeros_like(array)
            for place in np.ndindex(array.shape):
                before = array[place]
                array[place] = before + 1e-5
                high = loss()
                array[place] = before - 1e-5
                gradient[place] = (high - loss()) / 2e-5
                array[place] = before
            gradients.append(gradient)
        value = loss()
        for array, gradient in zip(weights, gradients):
            array -= LR * (gradient + decay * array)
        return value

    def step(
        self, x: np.ndarray, y: np.ndarray, z: np.ndarray, numbers: dict[str, np.ndarray], rules: Rules, decay: float
    ) -> tuple:
        k, packs = rules.d_steps, N // self.pack
        zeros = np.zeros((2 * k * N, 9))
        noise = numbers.get("instance_noise", zeros).reshape(k, 2, N, 9)
        moves = numbers.get("label_noise", np.full((k * packs, 1), 0.5)).reshape(k, packs, 1)
        mix = numbers.get("mix", np.zeros((k * packs, 1, 1, 1))).reshape(k, packs, 1)
        x = x.reshape(k, N, 9)
        told = np.eye(CLASSES)[y].reshape(k, N, -1) if rules.conditional else np.zeros((k, packs, 0))
        z = z.reshape(k + rules.g_steps - 1, N, LATENT)
        if rules.conditional:  # Later updates of G are told what the last one of D was.
            z = np.concatenate([z, told[np.minimum(np.arange(len(z)), k - 1)]], axis=2)

        def d(turn: int, fake: np.ndarray) -> float:
            real, fake = x[turn] + noise[turn, 0], fake + noise[turn, 1]
            return self.descend(self.D, lambda: self.loss_d(real, fake, told[turn], moves[turn], mix[turn]), decay)

        def g(turn: int) -> float:
            before = self.loss_g(z[turn], told[-1], noise[-1, 1])
            self.descend(self.G, lambda: self.loss_g(z[turn], told[-1], noise[-1, 1]) + self.unorthogonal(), decay)
            return before

        for turn in range(k - 1):
            d(turn, self.draw(z[turn]))
        fake = self.draw(z[k - 1])
        if rules.generator_first:
            loss_g, loss_d = g(k - 1), d(k - 1, fake)
        else:
            loss_d, loss_g = d(k - 1, fake), g(k - 1)
        for turn in range(k, len(z)):
            loss_g = g(turn)
        return loss_d, loss_g


CASES: dict[str, tuple[dict, Rules]] = {
    "plain": ({}, Rules()),
    "two updates of D": ({}, Rules(d_steps=2)),
    "three updates of G": ({}, Rules(g_steps=3)),
    "both more": ({}, Rules(d_steps=3, g_steps=2)),
    "G first": ({}, Rules(generator_first=True)),
    "G first, both more": ({}, Rules(d_steps=2, g_steps=2, generator_first=True)),
    "packs": ({}, Rules(pack=3)),
    "label noise": ({"smoothing": 0.1, "label_noise": 0.2}, Rules(d_steps=2, draws=("label_noise",))),
    "instance noise": ({"instance_noise": 0.3}, Rules(d_steps=2, draws=("instance_noise",))),
    "R1": ({"r1": 2.0}, Rules()),
    "gradient penalty": ({"gradient_penalty": 3.0}, Rules(d_steps=2, draws=("mix",))),
    "Wasserstein": ({"name": "wasserstein_gp"}, Rules(d_steps=2, draws=("mix",))),
    "orthogonal": ({"orthogonal": 0.05}, Rules(g_steps=2)),
    "told the class": ({}, Rules(d_steps=2, g_steps=2, conditional=True)),
    "told the class, penalties": (
        {"r1": 1.0, "gradient_penalty": 1.0, "instance_noise": 0.2},
        Rules(d_steps=2, conditional=True, draws=("instance_noise", "mix")),
    ),
    "all": (
        {"label_noise": 0.1, "instance_noise": 0.2, "r1": 1.0, "gradient_penalty": 1.0},
        Rules(d_steps=2, g_steps=2, pack=2, draws=("label_noise", "instance_noise", "mix")),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_step_is_the_game_written_out(case: str) -> None:
    loss, rules = CASES[case]
    options = Loss(**{"name": "bce_logits", **loss})
    decay = 0.1 if case == "plain" else 0.0
    random = np.random.default_rng(3)
    ms.set_seed(4)
    model, told = ("conditional", {"classes": CLASSES}) if rules.conditional else ("dense", {})
    common = {"model": model, "latent_size": LATENT, "image_shape": IMAGE}
    G = build_network(NetworkSpec(role="generator", options={"hidden": [5], **told}, **common)).set_train()
    options_d = {"hidden": [7], **told}
    D = build_network(NetworkSpec(role="discriminator", options=options_d, pack=rules.pack, **common)).set_train()
    descent = Optimizer(name="momentum", lr=LR, momentum=0.0, weight_decay=decay)
    optimizers = [make_optimizer(net, descent, rates=np.full(1, LR), prefix=f"{p}.") for net, p in ((G, "g"), (D, "d"))]
    for parameter in (*G.get_parameters(), *D.get_parameters()):
        parameter.set_data(ms.Tensor(random.normal(0, 0.5, parameter.shape).astype(np.float32)))
    game = Game(
        *([p.asnumpy().astype(np.float64) for p in network.get_parameters()] for network in (G, D)), options, rules.pack
    )
    step = make_train_step(G, D, *optimizers, make_loss(options), rules)
    k, packs = rules.d_steps, N // rules.pack
    for _ in range(2):
        x = np.tanh(random.standard_normal((k * N, *IMAGE)))
        z = random.standard_normal(((k + rules.g_steps - 1) * N, LATENT))
        numbers = {
            "label_noise": random.random((k * packs, 1)),
            "instance_noise": 0.3 * random.standard_normal((2 * k * N, *IMAGE)),
            "mix": random.random((k * packs, 1, 1, 1)),
        }
        y = random.integers(0, CLASSES, k * N).astype(np.int32)
        drawn = [numbers[name] for name in rules.draws]
        arrays = [x, y, z, *drawn]
        got = step(*[ms.Tensor(array if array.dtype == np.int32 else array.astype(np.float32)) for array in arrays])
        wanted = game.step(x, y, z, dict(zip(rules.draws, drawn)), rules, decay)
        np.testing.assert_allclose([float(value.asnumpy()) for value in got[:2]], wanted, rtol=2e-4, atol=2e-5)
        for network, weights in ((G, game.G), (D, game.D)):
            for parameter, array in zip(network.get_parameters(), weights, strict=True):
                np.testing.assert_allclose(parameter.asnumpy(), array, atol=2e-5, err_msg=parameter.name)
