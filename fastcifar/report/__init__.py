"""The report of the experiments: figures, tables, verdicts on claims, sample images."""
