"""The moving average of G's weights, whose samples are better than those of any single moment (Yazici et al. 2019)."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from gan_mnist.checkpoint import AVERAGED
from gan_mnist.latents import fixed_labels
from gan_mnist.models.layers import MOMENTUM

EVERY = 8
"""Steps from one move of the average to the next: as good as every step, at an eighth of the cost."""


class Average:
    """A generator whose weights follow those of the one in training.

        average <- average + (1 - decay^k) (G - average),   after every k = EVERY steps

    Args:
        G: the generator in training; the average begins as a copy of it.
        network: another of the same architecture, which becomes the average; its parameters get names of their own.
        decay: of the average, per step.
    """

    def __init__(self, G: nn.Cell, network: nn.Cell, *, decay: float) -> None:
        self.network = network
        for parameter, current in zip(network.get_parameters(), G.get_parameters(), strict=True):
            parameter.set_data(ms.Tensor(current.asnumpy()))
            parameter.name = AVERAGED + parameter.name
        pairs = list(zip(_followed(network), _followed(G), strict=True))
        share = 1.0 - decay**EVERY

        @ms.jit(jit_level="O1")
        def move() -> None:
            for averaged, current in pairs:
                ops.assign_add(averaged, share * (current - averaged))

        @ms.jit
        def normalise(*codes: ms.Tensor) -> ms.Tensor:
            return network(*codes)

        self._move = move
        self._normalise = normalise

    def follow(self, steps: int) -> None:
        """Move, if `steps` (all that G has taken) says that it is time."""
        if steps % EVERY == 0:
            self._move()

    def settle(self, z: ms.Tensor) -> None:
        """Give BatchNorm the statistics of a large batch of latent codes (N, latent_size); leaves evaluation mode.

        Running statistics belong to the weights of one moment; their average would not be those of the averaged
        weights (the "standing statistics" of Brock et al. 2019, appendix C.1). From zero, one pass in training mode
        leaves (1 - momentum) times the batch's.
        """
        statistics = [parameter for parameter in self.network.get_parameters() if ".moving_" in parameter.name]
        for parameter in statistics:
            ops.assign(parameter, ops.zeros_like(parameter))
        self.network.set_train(True)
        classes = getattr(self.network, "classes", None)
        self._normalise(z, *([ms.Tensor(fixed_labels(len(z), classes))] if classes else []))
        self.network.set_train(False)
        for parameter in statistics:
            ops.assign(parameter, parameter / (1 - MOMENTUM))


def _followed(network: nn.Cell) -> list[ms.Parameter]:
    """What is averaged: the weights, and spectral normalisation's u, which belongs to the weight beside it."""
    return [weight for weight in network.get_parameters() if weight.requires_grad or weight.name.endswith(".u")]
