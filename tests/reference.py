"""The Dense GAN's training step written out in NumPy, float64: no autograd, nothing shared, nothing fast."""

from __future__ import annotations

import numpy as np

Arrays = dict[str, np.ndarray]


class Adam:
    """Kingma & Ba 2015, algorithm 1 with the learning rate corrected for bias, as the course sets it."""

    def __init__(self, weights: Arrays) -> None:
        self.steps = 0
        self.first = {name: np.zeros_like(weight) for name, weight in weights.items()}
        self.second = {name: np.zeros_like(weight) for name, weight in weights.items()}

    def update(
        self, weights: Arrays, gradients: Arrays, lr: float = 2e-4, beta1: float = 0.5, beta2: float = 0.999
    ) -> None:
        self.steps += 1
        rate = lr * np.sqrt(1 - beta2**self.steps) / (1 - beta1**self.steps)
        for name, gradient in gradients.items():
            self.first[name] = beta1 * self.first[name] + (1 - beta1) * gradient
            self.second[name] = beta2 * self.second[name] + (1 - beta2) * gradient**2
            weights[name] = weights[name] - rate * self.first[name] / (np.sqrt(self.second[name]) + 1e-8)


class ReferenceGAN:
    """G: Dense, ReLU, then Dense, BatchNorm, ReLU ..., Dense, Tanh. D: Dense, LeakyReLU(0.2) ..., Dense, Sigmoid.

    Args:
        G: arrays by name, `model.0.weight` and so on; moving statistics included.
        D: likewise.
    """

    def __init__(self, G: Arrays, D: Arrays) -> None:
        self.G = {name: array.astype(np.float64) for name, array in G.items()}
        self.D = {name: array.astype(np.float64) for name, array in D.items()}
        self.adam_g, self.adam_d = Adam(self.G), Adam(self.D)
        self.layers_g = sorted({int(name.split(".")[1]) for name in G})
        self.layers_d = sorted({int(name.split(".")[1]) for name in D})

    def step(self, x: np.ndarray, z: np.ndarray) -> tuple[float, float]:
        """One update of each on images x (N, ...) and latent codes z (N, latent_size); returns loss_d and loss_g."""
        x, z = x.reshape(len(x), -1).astype(np.float64), z.astype(np.float64)
        fake, tape = self.generate(z)

        (real_logits, real_tape), (fake_logits, fake_tape) = self.discriminate(x), self.discriminate(fake)
        real, generated = sigmoid(real_logits), sigmoid(fake_logits)
        loss_d = -np.log(real).mean() - np.log(1 - generated).mean()
        for_real, _ = self.backward_d((real - 1) / len(x), real_tape)
        for_fake, _ = self.backward_d(generated / len(x), fake_tape)
        self.adam_d.update(self.D, {name: for_real[name] + for_fake[name] for name in for_real})

        logits, tape_d = self.discriminate(fake)
        loss_g = -np.log(sigmoid(logits)).mean()
        _, fake_gradient = self.backward_d((sigmoid(logits) - 1) / len(x), tape_d)
        self.adam_g.update(self.G, self.backward_g(fake_gradient, tape))
        return loss_d, loss_g

    def generate(self, z: np.ndarray) -> tuple[np.ndarray, list]:
        h, tape = z, []
        for layer in self.layers_g:
            name = f"model.{layer}."
            if name + "weight" in self.G:
                tape.append((name, h))
                h = h @ self.G[name + "weight"].T + self.G[name + "bias"]
                normalised = f"model.{layer + 1}.gamma" in self.G
            else:
                mean, variance = h.mean(axis=0), h.var(axis=0)
                hat = (h - mean) / np.sqrt(variance + 1e-5)
                tape.append((name, hat, variance))
                h = self.G[name + "gamma"] * hat + self.G[name + "beta"]
                unbiased = variance * len(z) / (len(z) - 1)
                for moving, batch in (("moving_mean", mean), ("moving_variance", unbiased)):
                    self.G[name + moving] = 0.9 * self.G[name + moving] + 0.1 * batch
                normalised = False
            if not normalised and layer != self.layers_g[-1]:
                tape.append(h)
                h = np.maximum(h, 0)
        return np.tanh(h), [*tape, np.tanh(h)]

    def backward_g(self, gradient: np.ndarray, tape: list) -> Arrays:
        gradients: Arrays = {}
        gradient = gradient * (1 - tape[-1] ** 2)
        for entry in reversed(tape[:-1]):
            if isinstance(entry, np.ndarray):
                gradient = gradient * (entry > 0)
            elif len(entry) == 2:
                name, h = entry
                gradients |= {name + "weight": gradient.T @ h, name + "bias": gradient.sum(axis=0)}
                gradient = gradient @ self.G[name + "weight"]
            else:
                name, hat, variance = entry
                gradients |= {name + "gamma": (gradient * hat).sum(axis=0), name + "beta": gradient.sum(axis=0)}
                dhat = gradient * self.G[name + "gamma"]
                dhat = dhat - dhat.mean(axis=0) - hat * (dhat * hat).mean(axis=0)
                gradient = dhat / np.sqrt(variance + 1e-5)
        return gradients

    def discriminate(self, x: np.ndarray) -> tuple[np.ndarray, list]:
        h, tape = x, []
        for layer in self.layers_d:
            name = f"model.{layer}."
            before = h
            h = h @ self.D[name + "weight"].T + self.D[name + "bias"]
            tape.append((name, before, h))
            if layer != self.layers_d[-1]:
                h = np.where(h > 0, h, 0.2 * h)
        return h, tape

    def backward_d(self, gradient: np.ndarray, tape: list) -> tuple[Arrays, np.ndarray]:
        gradients: Arrays = {}
        for name, before, h in reversed(tape):
            if name != tape[-1][0]:
                gradient = gradient * np.where(h > 0, 1, 0.2)
            gradients |= {name + "weight": gradient.T @ before, name + "bias": gradient.sum(axis=0)}
            gradient = gradient @ self.D[name + "weight"]
        return gradients, gradient


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))
