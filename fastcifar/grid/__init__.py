"""Train many runs, in packs, on several workers. No run is trained twice, and no result is lost."""
