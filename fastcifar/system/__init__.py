"""The machine: processors, memory, devices, clocks, and files that are written whole or not at all.

Nothing in this package depends on images or runs.
"""
