"""Datasets: the sources to convert from, the dataset directory, and the file formats that pipelines read."""
