"""How good are generated points: the known distribution of a toy data set is the judge. Needs no MindSpore."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import wasserstein_distance

from gan_mnist.data import toys
from gan_mnist.metrics import Score, modes


class PointJudge:
    """Compares points with a toy's modes or, where there is only one, with its moments and its test points.

    Args:
        dataset: a name from `toys.TOYS`.
    """

    SAMPLES = 2500
    """As many as the published numbers are of: with more, a mode is covered sooner."""

    def __init__(self, dataset: str) -> None:
        self.mixture = toys.TOYS[dataset]
        self.test, _ = toys.load(dataset, "test")
        self.group = "mixture" if len(self.mixture.centres) > 1 else "moments"
        """What `--metrics` calls these measures."""

    def measure(self, points: np.ndarray) -> dict[str, Score]:
        """The scores of points (N, coordinates), by the names of `scoreboard.MEASURES`."""
        return self._moments(points) if self.group == "moments" else self._modes(points)

    def score(self, points: np.ndarray) -> dict[str, float]:
        """The scores without their errors."""
        return {name: score.value for name, score in self.measure(points).items()}

    def _modes(self, points: np.ndarray) -> dict[str, Score]:
        counts = modes.high_quality(points, self.mixture.centres, sigma=self.mixture.sigma)
        share = int(counts.sum()) / len(points)
        scores = {
            "modes_covered": Score(modes.covered(counts)),
            "high_quality": Score(share, math.sqrt(share * (1 - share) / len(points))),
        }
        if share:
            scores["modes_divergence"] = Score(modes.divergence(counts))
        return scores

    def _moments(self, points: np.ndarray) -> dict[str, Score]:
        deviation = float(points.std(dtype=np.float64))
        return {
            "points_mean": Score(float(points.mean(dtype=np.float64)), deviation / math.sqrt(len(points))),
            "points_std": Score(deviation),
            "wasserstein": Score(float(wasserstein_distance(points[:, 0], self.test[:, 0]))),
        }
