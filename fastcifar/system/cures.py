"""The commands that install what is missing, as text for messages."""

from fastcifar.system import machine

PYTORCH = "https://download.pytorch.org/whl"


def extra(name: str) -> str:
    """Return the command that installs an extra. fastcifar is on no package index, so it works in a checkout alone."""
    return f"pip install -e '.[{name}]' in fastcifar's checkout"


def torchvision() -> str:
    """Return the command that installs a torch and a torchvision that belong together.

    A torch that came from PyTorch's own index has a label in its version, such as 2.13.0+cpu, and the index has a
    folder of this name.
    """
    label = (machine.version("torch") or "").partition("+")[2]
    index = f" --index-url {PYTORCH}/{label}" if label else ""
    return f"install the two together: pip install --force-reinstall torch torchvision{index}"
