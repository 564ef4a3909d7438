"""Measures of quality, computed from arrays; nothing here needs a device."""
