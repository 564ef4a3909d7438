"""One file for each framework; none is imported before its worker process needs it."""
