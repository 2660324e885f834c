"""Images/s of the pipelines, doing the same work, checked in the run that times them.

matrix says who competes; contest lets them take turns, each in a process of its own: process here and child over
there, where racer opens the pipeline, takes turns with it, and has verify compare what came. Rows are made by rows,
and shown by table, plot and compare.
"""
