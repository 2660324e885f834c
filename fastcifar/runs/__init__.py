"""The specification of a run, its directory, and its results read back. Nothing in this package trains."""
