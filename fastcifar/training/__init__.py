"""Training one run, from its batches to its kept weights. Several processes may train it together."""
