"""What the workers of a job tell one another: means within a step, and news between steps.

All of it is AllReduce, the one collective operation that MindSpore documents for CPU, GPU and Ascend. Every worker gets
the same sums, bit for bit: each element is added up in one place and handed round.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Sequence

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops
from mindspore.ops import operations as P  # noqa: N812 (MindSpore's own name for it)

from gan_mnist.distributed import Worker
from gan_mnist.errors import UserError
from gan_mnist.interrupts import SIGNALS, Interrupt

Mean = Callable[[Sequence[Tensor]], tuple[Tensor, ...]]
"""Replaces each tensor by its mean over all workers, within a compiled step."""
PATIENCE = 1.0
"""Seconds, about, from one question whether anybody was asked to stop to the next."""


def mean_over(workers: int) -> Mean:
    """The mean over so many workers. All tensors travel as one: a message has its price, whatever its length."""
    if workers == 1:
        return tuple
    # Primitives: the functions of the same names can't be compiled within a `bprop`.
    all_reduce, concat, cut, reshape = P.AllReduce(), P.Concat(), P.Slice(), P.Reshape()

    def mean(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        joined = all_reduce(concat([reshape(tensor, (-1,)) for tensor in tensors])) * (1.0 / workers)
        means, start = [], 0
        for tensor in tensors:
            means.append(reshape(cut(joined, (start,), (tensor.size,)), tensor.shape))
            start += tensor.size
        return tuple(means)

    return mean


class Workers:
    """All workers of a job, as one of them sees them between steps. Whatever one asks here, all must ask.

    Args:
        here: this worker.
    """

    def __init__(self, here: Worker) -> None:
        self.here = here
        self._waited = 0
        self._every = 1
        self._since = time.monotonic()

    def gather(self, values: Sequence[float] | np.ndarray) -> np.ndarray:
        """Everybody's values, in the order of the ranks: (workers, len(values)) float32."""
        rows = np.zeros((self.here.total, len(values)), np.float32)
        rows[self.here.rank] = values
        return self._sum(rows)

    def mean(self, rows: np.ndarray) -> np.ndarray:
        """The mean over all workers of an array of any shape."""
        if self.here.total == 1:
            return rows
        return self.gather(rows.ravel()).mean(axis=0, dtype=np.float64).reshape(rows.shape)

    def wait(self) -> None:
        """Until all are here."""
        self.gather([0.0])

    def from_leader(self, text: str) -> str:
        """The leader's text."""
        length = int(self.gather([len(text.encode())])[0, 0])
        return self._bytes_from_leader(text.encode(), length).decode()

    def follow_leader(self, parameters: Iterable[ms.Parameter]) -> None:
        """Set parameters that no step has used yet to what they are at the leader's."""
        if self.here.total == 1:
            return
        for parameter in parameters:
            array = parameter.asnumpy()
            shared = self._bytes_from_leader(array.tobytes(), array.nbytes)
            parameter.set_data(Tensor(np.frombuffer(shared, array.dtype).reshape(array.shape)))

    def agree(self, interrupt: Interrupt, overdue: bool = False, *, now: bool = False) -> tuple[bool, bool]:
        """Whether to stop now, and whether to save: the same answer for all, after the same step.

        Called after every step, it asks the others about once a second.

        Args:
            interrupt: whether this worker was asked to stop; that one was is enough.
            overdue: it is time to save; the leader's clock counts.
            now: ask the others at once.
        """
        if self.here.total == 1:
            return bool(interrupt), overdue
        self._waited += 1
        if self._waited < self._every and not now:
            return False, False
        seconds = (time.monotonic() - self._since) / self._waited
        found = self.gather([*(interrupt.number == number for number in SIGNALS), overdue, seconds])
        self._every = max(1, int(PATIENCE / max(float(found[:, -1].mean()), 1e-9)))
        self._waited, self._since = 0, time.monotonic()
        interrupt.agreed = next((number for index, number in enumerate(SIGNALS) if found[:, index].any()), None)
        return interrupt.agreed is not None, bool(found[0, len(SIGNALS)])

    def require_equal(self, parameters: Sequence[ms.Parameter], *, epoch: int) -> None:
        """Compare checksums of what must be the same everywhere.

        Raises:
            UserError: it is not, naming the first parameter and worker.
        """
        if self.here.total == 1:
            return
        sums = [zlib.crc32(parameter.asnumpy().tobytes()) for parameter in parameters]
        # Halves: 16 bits are exact in float32.
        found = self.gather([half for value in sums for half in divmod(value, 2**16)]).reshape(self.here.total, -1, 2)
        differ = (found != found[0]).any(axis=2)  # (workers, parameters)
        if differ.any():
            rank, index = np.argwhere(differ)[0]
            raise UserError(
                f"after epoch {epoch}, `{parameters[index].name}` of worker {rank} is not worker 0's any more (and "
                f"{differ.any(axis=0).sum() - 1} others): a machine computes or transmits wrongly; find it, and go on "
                "from the last saved state with --resume"
            )

    def _bytes_from_leader(self, content: bytes, length: int) -> bytes:
        shared = np.zeros(length, np.float32)
        if self.here.leads:
            shared[:] = np.frombuffer(content, np.uint8)
        return self._sum(shared).astype(np.uint8).tobytes()

    def _sum(self, array: np.ndarray) -> np.ndarray:
        """Over all workers; float32, the one type that all devices add up."""
        return ops.AllReduce()(Tensor(array)).asnumpy() if self.here.total > 1 else array
