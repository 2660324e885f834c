"""Experiments that answer one question about training. The arms of an experiment differ in one setting."""
