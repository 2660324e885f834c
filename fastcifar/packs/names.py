"""The names of the ways to train a pack, without torch, so that a command can refuse a name at once."""

from fastcifar.errors import unknown

SERIAL, SIDE_BY_SIDE = "serial", "side-by-side"
STACKED = ("grouped", "im2col", "fused")
WAYS = (SERIAL, SIDE_BY_SIDE, *STACKED)
"""serial: one run after another, each on the whole device. side-by-side: one run on each CPU core. The ways of STACKED
are one program with a leading run dimension. grouped: one convolution with a group for each run, as vmap makes it.
im2col: each output's receptive field is a row, and one matrix product multiplies all rows with the weights. fused: with
fused kernels, on a GPU for the CNN's convolutions and a vision transformer's attention and LayerNorm, on a CPU for that
attention; the other layers are as grouped."""


def check_way(way: str) -> None:
    """Raise UsageError for a way that is neither auto nor one of WAYS."""
    if way not in ("auto", *WAYS):
        raise unknown("--way", way, ("auto", *WAYS))
