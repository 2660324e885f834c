"""Measure the images/s of pipelines that do the same work. Each timed run also verifies the batches.

matrix lists the contestants. heat times them in turns, each in a process of its own, which entrant and process control.
child runs in that process, where turn opens the pipeline, takes timed turns and has verify compare the batches. rows
writes and reads the results; table, plot, page and compare show them, conclusion says what they mean, and share makes
Markdown of them.
"""
