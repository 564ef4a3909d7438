"""The one exception a user is meant to see, and the wrapper that shows it as one line."""

from __future__ import annotations

import sys
from collections.abc import Callable


class UserError(Exception):
    """Something in the user's input, data or machine is wrong.

    The message is one line that names the file, key or flag and says how to mend it.
    """


class NonFiniteError(UserError):
    """A loss or weight is NaN or infinite: training has diverged."""


def run(main: Callable[[], int | None]) -> int:
    """Call a script's `main` and return its exit status.

    `UserError` becomes one line on stderr and status 1, Ctrl-C status 130; any other exception is a bug and keeps its
    traceback.
    """
    try:
        return main() or 0
    except UserError as error:
        message = " ".join(str(error).split())
        print(f"error: {message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        return 130
