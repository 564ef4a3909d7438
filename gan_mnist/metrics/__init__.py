"""Measures of quality, computed from arrays; only `classifier`, which makes features of images, needs MindSpore."""
