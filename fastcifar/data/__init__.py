"""Datasets: the sources that they are converted from, their directory, and the forms that pipelines read."""
