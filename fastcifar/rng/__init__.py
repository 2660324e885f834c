"""Random numbers as pure functions of a seed, a purpose, an epoch and a sample's id.

CPU, GPU and numpy compute the same bits.
"""
