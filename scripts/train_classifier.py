"""Train the classifier of the quality measures again, and write gan_mnist/metrics/classifier.ckpt.

    python scripts/train_classifier.py [--data MNIST_Data] [--out classifier.ckpt] [--epochs N]

The same weights to the bit on the same kind of machine. Nobody needs to: other weights make other Frechet distances.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import _clone  # noqa: F401  (makes this clone's gan_mnist importable)
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from gan_mnist import cli, environment
from gan_mnist.data import Images, prepare, read_images
from gan_mnist.errors import run

SEED, BATCH, RATE = 2323, 128, 2e-3


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--data", type=Path, default=Path("MNIST_Data"), help="MNIST's folder (MNIST_Data)")
    parser.add_argument("--epochs", type=cli.positive, default=10, help="passes over the training images (10)")
    parser.add_argument("--out", type=Path, help="where to; by default into the package")
    arguments = parser.parse_args()
    prepare.ensure_mnist(arguments.data)
    environment.prepare()
    train(arguments.data, epochs=arguments.epochs, out=arguments.out)


def train(data: Path, *, epochs: int, out: Path | None) -> None:
    """Adam with a rate that falls linearly to 0 on distorted training images; the test images only judge the result."""
    import mindspore as ms
    from mindspore import nn, ops

    from gan_mnist import checkpoint, runtime
    from gan_mnist.metrics.classifier import WEIGHTS, Classifier, Reader

    runtime.start("CPU", seed=SEED)
    images, test = read_images(data, "train"), read_images(data, "test")
    network = Classifier(np.random.default_rng([SEED, 0]))
    steps = epochs * (len(images.labels) // BATCH)
    rates = [RATE * (1 - step / steps) for step in range(steps)]
    optimizer = nn.Adam(network.trainable_params(), learning_rate=rates)

    def loss_of(x: ms.Tensor, y: ms.Tensor) -> ms.Tensor:
        return ops.cross_entropy(network(x)[1], y)

    gradient = ms.value_and_grad(loss_of, None, optimizer.parameters)

    @ms.jit  # type: ignore[untyped-decorator]
    def step(x: ms.Tensor, y: ms.Tensor) -> ms.Tensor:
        loss, gradients = gradient(x, y)
        optimizer(gradients)
        return loss

    for epoch in range(epochs):
        losses = [step(ms.Tensor(x), ms.Tensor(y)) for x, y in batches(images, np.random.default_rng([SEED, 1, epoch]))]
        print(f"epoch {epoch + 1}/{epochs}: loss {np.mean([loss.asnumpy() for loss in losses]):.4f}", flush=True)

    weights = {parameter.name: parameter.asnumpy().astype(np.float16) for parameter in network.get_parameters()}
    checkpoint.save_arrays(out or WEIGHTS, weights, {"seed": SEED, "epochs": epochs})
    accuracy = (Reader(out or WEIGHTS).read(test.pixels).probabilities.argmax(axis=1) == test.labels).mean()
    print(f"wrote {out or WEIGHTS}: {accuracy:.2%} of the test images right")


def batches(images: Images, rng: np.random.Generator) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int32]]]:
    """An epoch in random order, float32 in [0, 1], each image gently turned, sheared, scaled and shifted by chance."""
    order = rng.permutation(len(images.labels))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        chosen = order[start : start + BATCH]
        turn, shear = rng.uniform(-0.2, 0.2, BATCH), rng.uniform(-0.15, 0.15, BATCH)
        scale, shift = rng.uniform(0.9, 1.1, (BATCH, 2)), rng.uniform(-2, 2, (BATCH, 2))
        x = np.empty((BATCH, 28, 28), np.float32)
        for i, pixels in enumerate(images.pixels[chosen].astype(np.float32) / 255):
            rotation = np.array([[np.cos(turn[i]), -np.sin(turn[i])], [np.sin(turn[i]), np.cos(turn[i])]])
            matrix = np.array([[scale[i, 0], 0], [shear[i], scale[i, 1]]]) @ rotation
            affine_transform(pixels, matrix, 13.5 - matrix @ (13.5 + shift[i]), output=x[i], order=1)
        yield x, images.labels[chosen].astype(np.int32)


if __name__ == "__main__":
    sys.exit(run(main))
