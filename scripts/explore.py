"""Explore a run in the browser: move through G's latent space, mix digits, ask D.

    pip install .[web]
    python scripts/explore.py --run result/mnist
    python scripts/explore.py --run result/mnist --port 8000 --host 0.0.0.0      for others on the network to see

The page works offline. It has no password: whoever reaches the port can use it.
"""

import importlib.util
import socket
import sys
import time
from pathlib import Path

import _clone  # noqa: F401  (makes this clone's gan_mnist importable)

from gan_mnist import cli, environment, interrupts
from gan_mnist.errors import UserError, run
from gan_mnist.rundir import latest_generator


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--run", required=True, type=Path, help="a run directory; it may still be training")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1: this machine only)")
    parser.add_argument("--port", type=cli.port, default=7860, help="to listen on (7860)")
    parser.add_argument("--device", choices=cli.DEVICES, default="auto")
    arguments = parser.parse_args()

    if importlib.util.find_spec("gradio") is None:
        raise UserError("the explorer needs Gradio: pip install .[web]")
    _, ckpt = latest_generator(arguments.run)
    require_free(arguments.host, arguments.port)
    with interrupts.watch() as interrupt:
        environment.prepare(model=environment.model_of(ckpt))
        from gan_mnist import explorer, explorer_page  # MindSpore reads its environment when it is imported.

        def wait() -> None:
            interrupt.defer()
            while not interrupt:
                time.sleep(0.1)

        chosen = explorer.Explorer(arguments.run, device=arguments.device)
        explorer_page.serve(chosen, host=arguments.host, port=arguments.port, wait=wait)
        return interrupt.exit_status


def require_free(host: str, port: int) -> None:
    """Refuse an address that can't be listened on, before anything is loaded."""
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise UserError(
            f"--host {host} --port {port}: cannot be listened on ({error.strerror}); choose others"
        ) from None


if __name__ == "__main__":
    sys.exit(run(main))
