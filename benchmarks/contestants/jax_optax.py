"""JAX: the whole step under one jit, Adam from optax, the state's memory given back (donated) or not."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks import problem
from benchmarks.problem import Contestant

Parameters = list[dict[str, jax.Array]]


def draw(parameters: Parameters, moving: list[tuple[jax.Array, jax.Array]], z: jax.Array) -> Any:
    """G: images (N, pixels), and BatchNorm's moving statistics after this batch (PyTorch's momentum 0.1)."""
    first, *inner, last = parameters
    count = z.shape[0]
    h = jax.nn.relu(z @ first["w"] + first["b"])
    updated = []
    for layer, (moving_mean, moving_variance) in zip(inner, moving):
        h = h @ layer["w"]  # No bias: BatchNorm would subtract it again.
        mean, variance = h.mean(0), h.var(0)
        unbiased = variance * (count / (count - 1))
        updated.append((0.9 * moving_mean + 0.1 * mean, 0.9 * moving_variance + 0.1 * unbiased))
        scale = layer["gamma"] * jax.lax.rsqrt(variance + 1e-5)
        h = jax.nn.relu((h - mean) * scale + layer["beta"])
    return jnp.tanh(h @ last["w"] + last["b"]), updated


def logits(parameters: Parameters, x: jax.Array) -> jax.Array:
    """D before its sigmoid, (N, 1)."""
    *inner, last = parameters
    for layer in inner:
        x = jax.nn.leaky_relu(x @ layer["w"] + layer["b"], 0.2)
    return x @ last["w"] + last["b"]


def d_loss(parameters: Parameters, x: jax.Array, fake: jax.Array) -> jax.Array:
    """BCE(D(x), 1) + BCE(D(G(z)), 0), real and fake as one batch."""
    scores = logits(parameters, jnp.concatenate([x, fake]))
    count = x.shape[0]
    return jax.nn.softplus(-scores[:count]).mean() + jax.nn.softplus(scores[count:]).mean()


def g_loss(fake: jax.Array, parameters: Parameters) -> jax.Array:
    """BCE(D(G(z)), 1)."""
    return jax.nn.softplus(-logits(parameters, fake)).mean()


def build(path: Path, *, donate: bool, threads: int) -> Contestant:
    """JAX sizes its thread pool by the cores that the process may use."""
    task = problem.load(path)
    G: Parameters = [{"w": jnp.asarray(weight.T), "b": jnp.asarray(bias)} for weight, bias in task.generator]
    D: Parameters = [{"w": jnp.asarray(weight.T), "b": jnp.asarray(bias)} for weight, bias in task.discriminator]
    moving = []
    for layer in G[1:-1]:
        width = len(layer.pop("b"))
        layer |= {"gamma": jnp.ones(width), "beta": jnp.zeros(width)}
        moving.append((jnp.zeros(width), jnp.ones(width)))
    adam = optax.adam(task.lr, b1=task.beta1, b2=task.beta2)

    @partial(jax.jit, donate_argnums=(0,) if donate else ())
    def train_step(state: Any, x: jax.Array, z: jax.Array) -> Any:
        G, D, moving, adam_g, adam_d = state
        fake, g_backward, moving = jax.vjp(lambda G: draw(G, moving, z), G, has_aux=True)

        loss_d, gradients = jax.value_and_grad(d_loss)(D, x, fake)
        updates, adam_d = adam.update(gradients, adam_d)
        D = optax.apply_updates(D, updates)

        loss_g, fake_gradient = jax.value_and_grad(g_loss)(fake, D)
        updates, adam_g = adam.update(*g_backward(fake_gradient), adam_g)
        G = optax.apply_updates(G, updates)
        return (G, D, moving, adam_g, adam_d), loss_d, loss_g

    batches = [(jnp.asarray(x), jnp.asarray(z)) for x, z in zip(task.flat_x, task.z)]
    last: list[Any] = [((G, D, moving, adam.init(G), adam.init(D)), None, None)]

    def step(index: int) -> None:
        last[0] = train_step(last[0][0], *batches[index % len(batches)])

    def wait() -> tuple[float, float]:
        _, loss_d, loss_g = jax.block_until_ready(last[0])
        return float(loss_d), float(loss_g)

    return Contestant(step, wait, {"jax": jax.__version__, "optax": optax.__version__})
