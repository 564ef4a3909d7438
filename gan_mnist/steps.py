"""One step of the game, compiled: the only place that computes gradients and calls the optimizers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from gan_mnist import config
from gan_mnist.accumulation import TrainStep as TrainStep
from gan_mnist.accumulation import make_sliced_step
from gan_mnist.collectives import mean_over
from gan_mnist.latents import sides
from gan_mnist.losses import Loss
from gan_mnist.models.spectral import orthogonal_gradient

LOSS_SCALE = {"off": 1.0, "bf16": 1.0, "fp16": 1024.0}
"""What losses are multiplied by, and gradients divided by, lest small gradients vanish in float16 (Micikevicius et al.
2018, section 3.2); bfloat16 has float32's range."""


def make_optimizer(network: nn.Cell, options: config.Optimizer, *, rates: np.ndarray, prefix: str) -> nn.Optimizer:
    """The optimizer of a network's trainable parameters; what it owns itself is named with `prefix`.

    `Optimizer.update_parameters_name` would rename the network's parameters too, which checkpoints know by name.

    Args:
        network: what it trains.
        options: its settings.
        rates: the learning rate of every step (`schedules.learning_rates`).
        prefix: such as `optim_g.`.
    """
    weights = network.trainable_params()
    rate = rates.tolist() if np.ptp(rates) else float(rates[0])
    if options.name == "adam":
        beta1 = max(options.beta1, 1e-9)  # MindSpore refuses 0; to float32, 1e-9 of a moment beside a gradient is none.
        optimizer = nn.Adam(
            weights, learning_rate=rate, beta1=beta1, beta2=options.beta2, weight_decay=options.weight_decay
        )
    else:
        optimizer = nn.Momentum(
            weights, learning_rate=rate, momentum=options.momentum, weight_decay=options.weight_decay
        )
    for parameter in own_parameters(optimizer, network):
        parameter.name = prefix + parameter.name
    return optimizer


def own_parameters(optimizer: nn.Optimizer, network: nn.Cell) -> list[ms.Parameter]:
    """The optimizer's parameters (moments, beta powers, step, learning rate) without the network's."""
    shared = {id(parameter) for parameter in network.get_parameters()}
    return [parameter for parameter in optimizer.get_parameters() if id(parameter) not in shared]


class Rules(NamedTuple):
    """How a step of the game goes."""

    d_steps: int = 1
    """Updates of D, each with N images of its own."""
    g_steps: int = 1
    """Updates of G, each with N latent codes of its own."""
    generator_first: bool = False
    """G is updated before D, which then sees what G drew before its update."""
    pack: int = 1
    """Images that D judges at once, their channels joined (Lin et al. 2018); divides N."""
    conditional: bool = False
    """Both networks are told the class: G(z, y), D.logits(x, y)."""
    draws: tuple[str, ...] = ()
    """Names of the random numbers that come with a step's images (`latents.Draw`), in their order."""
    workers: int = 1
    """Processes that play together, each with N images of its own; they update by the mean of their gradients."""
    amp: config.Precision = "off"
    """Mixed precision: what matrix products and convolutions compute in; weights and the rest stay float32."""
    slices: int = 1
    """Parts of a batch whose gradients are computed one after the other: see `accumulation`. Only where D is updated
    once, then G."""


def make_train_step(
    G: nn.Cell,
    D: nn.Cell,
    optim_g: nn.Optimizer,
    optim_d: nn.Optimizer,
    loss: Loss,
    rules: Rules = Rules(),  # noqa: B008 (immutable)
) -> TrainStep:
    """Compile one step of the game: k updates of D, then one of G (Goodfellow et al. 2014, algorithm 1).

        D: minimise BCE(D(x), 1) + BCE(D(G(z)), 0)
        G: minimise BCE(D(G(z)), 1), through the D just updated, with the same z     (losses by name: gan_mnist.losses)

    G does not change between D's last update and its own, so its forward pass runs once and serves both.

    What is random in a step is handed to it, so that a step is a function of its arguments; G's update sees the same
    numbers for its images as D's did:

        dropout         (2 k N / pack, D.noise_size) from U(0, 1): what D leaves out (see `models`)
        label_noise     (k N / pack, 1) from U(0, 1): moves the labels of real images
        instance_noise  (2 k N, C, H, W): added to all images that D sees
        mix             (k N / pack, 1, 1, 1) from U(0, 1): places between real and generated images

    Each begins with the first update's numbers, and in those of 2 N come the real images' before the generated ones'.

    Args:
        G: the generator.
        D: the discriminator.
        optim_g: its optimizer.
        optim_d: likewise.
        loss: what each of them minimises.
        rules: of the step: k and the like.

    Returns:
        train_step(x, y, z, *drawn): real images x (k N, C, H, W), their classes y (k N,), latent codes z
        ((k + g - 1) N, latent_size) and the numbers named by `rules.draws` -> loss_d, loss_g, and the logits
        (N / pack, 1) of x and of G(z) that D's last update saw.
    """
    loss_of_d, loss_of_g, orthogonal = loss.discriminator, loss.generator, loss.orthogonal
    turns, codes = rules.d_steps, rules.d_steps + rules.g_steps - 1
    mean, scale = mean_over(rules.workers), LOSS_SCALE[rules.amp]
    generate, judge = (G, D.logits) if rules.amp == "off" else _in_mixed_precision(G, D, rules.amp)
    # What an update of D is given beside images, where the game has it: classes and random numbers.
    names = ("class",) * rules.conditional + rules.draws
    # Real and generated images go through D as one batch, unless D's BatchNorm would mix their statistics.
    jointly = not any(parameter.name.endswith("moving_mean") for parameter in D.get_parameters())

    def part(whole: Tensor, turn: int, parts: int) -> Tensor:
        size = whole.shape[0] // parts
        return whole if parts == 1 else whole[turn * size : (turn + 1) * size]

    def get(name: str, given: Sequence[Tensor]) -> list[Tensor]:
        """The one of that name, or none."""
        return [given[names.index(name)]] if name in names else []

    def half(numbers: list[Tensor], index: int) -> list[Tensor]:
        """Those for real (0) or for generated (1) images."""
        return [part(both, index, 2) for both in numbers]

    def as_seen(images: Tensor, noise: list[Tensor]) -> Tensor:
        """As D sees images: with noise, in packs."""
        images = images + noise[0] if noise else images
        return images.reshape(images.shape[0] // rules.pack, -1, *images.shape[2:])

    def slope(image: Tensor) -> Tensor:
        def total(image: Tensor) -> Tensor:  # Not the one below: an empty `*told` would be one argument too many.
            return judge(image).sum()

        return ms.grad(total)(image)

    def slope_told(image: Tensor, *told: Tensor) -> Tensor:
        def total(image: Tensor, *told: Tensor) -> Tensor:
            return judge(image, *told).sum()

        return ms.grad(total)(image, *told)

    slope_of_d = slope_told if rules.conditional or "dropout" in rules.draws else slope

    def steepness(image: Tensor, *told: Tensor) -> Tensor:
        """|grad D|^2 at each image, (N,)."""
        return ops.square(slope_of_d(image, *told)).reshape(image.shape[0], -1).sum(axis=1)

    def d_loss(both: Tensor, *given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, fake = part(both, 0, 2), part(both, 1, 2)
        y, dropout = get("class", given), get("dropout", given)
        if jointly:
            logits = judge(both, *[ops.concat((classes, classes)) for classes in y], *dropout)
            real_logits, fake_logits = ops.split(logits, x.shape[0])
        else:
            real_logits, fake_logits = judge(x, *y, *half(dropout, 0)), judge(fake, *y, *half(dropout, 1))
        value = loss_of_d(real_logits, fake_logits, *get("label_noise", given))
        if loss.r1:
            value += 0.5 * loss.r1 * steepness(x, *y, *half(dropout, 0)).mean()
        if loss.gradient_penalty:
            between = x + get("mix", given)[0] * (fake - x)
            slope = ops.sqrt(steepness(between, *y, *half(dropout, 0)) + 1e-12)
            value += loss.gradient_penalty * ops.square(slope - 1.0).mean()
        return scaled(value), real_logits, fake_logits

    def g_loss(fake: Tensor, *given: Tensor) -> Tensor:
        y, dropout = get("class", given), half(get("dropout", given), 1)
        return scaled(loss_of_g(judge(as_seen(fake, half(get("instance_noise", given), 1)), *y, *dropout)))

    def pull(weight: Tensor) -> Tensor:
        """Towards orthogonal rows: the gradient of G's regularisation."""
        return orthogonal * orthogonal_gradient(weight) if weight.ndim > 1 else ops.zeros_like(weight)

    def scaled(value: Tensor) -> Tensor:
        return value if scale == 1 else value * scale

    def unscaled(loss: Tensor, gradients: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        return (loss, gradients) if scale == 1 else (loss / scale, tuple([each / scale for each in gradients]))

    gradient_of_d_loss = ms.value_and_grad(d_loss, None, optim_d.parameters, has_aux=True)
    gradient_of_fake = ms.value_and_grad(g_loss, 0)

    def d_gradient(both: Tensor, *given: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, ...]]:
        (loss_d, real_logits, fake_logits), gradients = gradient_of_d_loss(both, *given)
        loss_d, gradients = unscaled(loss_d, gradients)
        return (loss_d, real_logits, fake_logits), gradients

    def update_d(x: Tensor, fake: Tensor, *given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        both = as_seen(ops.concat((x, fake)), get("instance_noise", given))
        (loss_d, real_logits, fake_logits), gradients = d_gradient(both, *given)
        optim_d(mean(gradients))
        return loss_d, real_logits, fake_logits

    def g_gradient(fake: Tensor, g_backward: Callable[..., Any], *given: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        loss_g, fake_gradient = gradient_of_fake(fake, *given)
        loss_g, gradients = unscaled(loss_g, g_backward(fake_gradient)[-1])
        if orthogonal:
            gradients = tuple([by_game + pull(weight) for by_game, weight in zip(gradients, optim_g.parameters)])
        return loss_g, gradients

    def update_g(fake: Tensor, g_backward: Callable[..., Any], *given: Tensor) -> Tensor:
        loss_g, gradients = g_gradient(fake, g_backward, *given)
        optim_g(mean(gradients))
        return loss_g

    def of_d(x: Tensor, y: Tensor, z: Tensor, *drawn: Tensor) -> Any:
        given = (y, *drawn) if rules.conditional else drawn
        both = as_seen(ops.concat((x, generate(z, *get("class", given)))), get("instance_noise", given))
        return d_gradient(both, *given)

    def of_g(x: Tensor, y: Tensor, z: Tensor, *drawn: Tensor) -> Any:
        given = (y, *drawn) if rules.conditional else drawn
        return g_gradient(*ms.vjp(generate, z, *get("class", given), weights=optim_g.parameters), *given)

    if rules.slices > 1:
        parts = [1, 1, 1, *map(sides, rules.draws)]
        return make_sliced_step(of_d, of_g, optim_d, optim_g, mean, slices=rules.slices, sides=parts)

    @ms.jit(jit_level="O1")
    def train_step(x: Tensor, y: Tensor, z: Tensor, *drawn: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        every = (y, *drawn) if rules.conditional else drawn
        for turn in range(turns - 1):
            given = [part(whole, turn, turns) for whole in every]
            update_d(part(x, turn, turns), generate(part(z, turn, codes), *get("class", given)), *given)

        x = part(x, turns - 1, turns)
        given = [part(whole, turns - 1, turns) for whole in every]
        classes = get("class", given)
        fake, g_backward = ms.vjp(generate, part(z, turns - 1, codes), *classes, weights=optim_g.parameters)
        if rules.generator_first:
            loss_g = update_g(fake, g_backward, *given)
            loss_d, real_logits, fake_logits = update_d(x, fake, *given)
        else:
            loss_d, real_logits, fake_logits = update_d(x, fake, *given)
            loss_g = update_g(fake, g_backward, *given)

        for turn in range(turns, codes):
            fake, g_backward = ms.vjp(generate, part(z, turn, codes), *classes, weights=optim_g.parameters)
            loss_g = update_g(fake, g_backward, *given)
        return loss_d, loss_g, real_logits, fake_logits

    return train_step


def _in_mixed_precision(G: nn.Cell, D: nn.Cell, precision: str) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """G and D's logits, with matrix products and convolutions in half the bits (Micikevicius et al. 2018)."""
    kind = {"bf16": ms.bfloat16, "fp16": ms.float16}[precision]

    def logits(image: Tensor, *given: Tensor) -> Tensor:
        return D.logits(image, *given)

    low_logits = ms.amp.auto_mixed_precision(logits, "auto", kind)

    def judge(image: Tensor, *given: Tensor) -> Tensor:
        return ops.cast(low_logits(image, *given), ms.float32)

    return ms.amp.auto_mixed_precision(G, "auto", kind), judge
