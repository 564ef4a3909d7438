"""The process through which the workers of a job find one another. It computes nothing, and ends when they have.

MindSpore's scheduler says which worker it has lost, and msrun, which shows that, waits for it.
"""

from __future__ import annotations

import os

from gan_mnist import environment

PATIENCE = "10"
"""Seconds without a sign of life after which a worker counts as lost; MindSpore's own are 30."""


def run() -> int:
    """Bring the workers together, and stay until they have ended."""
    os.environ.setdefault("MS_NODE_TIMEOUT", PATIENCE)
    environment.prepare()
    from mindspore import communication

    communication.init()
    return 0
