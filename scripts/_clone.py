"""Makes this clone's own gan_mnist importable, whether or not (and wherever else) the package is installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
