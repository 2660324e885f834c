"""The modes of --compile, without torch, so that a command can refuse a name at once."""

from fastcifar.errors import UsageError

MODES = ("graph", "inductor", "none")
"""The modes. graph: the step is one CUDA graph. inductor: torch.compile compiles the network, and the step is a CUDA
graph where that is possible. none: the host launches each step."""


def check_mode(mode: str, known: tuple[str, ...] = ("auto", *MODES)) -> None:
    """Raise UsageError for a mode that is not one of ``known``."""
    if mode not in known:
        raise UsageError(f"--compile {mode!r} is not one of {', '.join(known)}; choose one of them")
