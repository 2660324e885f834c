"""Runs on paper and on the disk: what a run is, its directory, and its numbers read back. Nothing here trains."""
