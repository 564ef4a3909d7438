"""Our step next to others': run.py."""
