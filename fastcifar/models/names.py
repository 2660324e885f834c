"""The names of networks and the checks of a name, without torch, so that a command can refuse a name at once."""

import difflib
import os
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from fastcifar.errors import UsageError
from fastcifar.system import foreign

MLP_HIDDEN = {"mlp_s": (1500, 500, 100), "mlp_l": (2048, 1024, 512, 256, 128, 64, 32, 16)}
"""The widths of the hidden layers of each multi-layer perceptron."""
MODELS = (*MLP_HIDDEN, "cnn", "vit", "vit_as_run")
"""The names of the networks for 32 x 32 images."""
FEATURED = ("mobilenet_v3_small", "efficientnet_v2_s", "resnet18")
"""The names of the networks of experiment 4."""
TIMM = "timm:"
"""The prefix of the names of timm's networks."""
NO_CODE = "none"
"""The code of a network that is not one's own."""
NONE = "none"
"""The identity of no initial weights: the network trains from random ones."""
WAYS = ("full", "head", "as-run")
"""The ways to fine-tune. full trains every weight. head trains the last layer alone, with the backbone in evaluation
mode. as-run trains the last layer alone, but with BatchNorm and dropout in training mode, so running statistics drift
with every batch."""
MOST_IMAGES = 1 << 16  # the largest batch size of a run

_BUILDER = re.compile(
    r"^@register_model\((?:name=)?(?:\"(\w+)\")?\)\n(?:@\w+\([^@]*\)\n)*def (\w+)", re.MULTILINE
)  # a function of torchvision that makes a network; its own name is the default


def is_own(name: str) -> bool:
    """Return whether a model's name has the form of one's own network, ``package.module:factory``."""
    return ":" in name and not name.startswith(TIMM)


def require_own(name: str) -> None:
    """Raise UsageError for the name of one's own network whose form is wrong, or whose module does not exist.

    Nothing is imported for this.
    """
    place, _, wanted = name.rpartition(":")
    if (Path(place).stem if place.endswith(".py") else place) in ("", "__main__") or not wanted:
        raise UsageError(f"model {name!r} is not of the form package.module:factory, where module is a file of its own")
    try:
        foreign.require(place, f"model {name!r}")
    except foreign.NoSuchModule as error:
        raise UsageError(f"{error}; {nearest_own(place, wanted)}") from error


def nearest_own(place: str, wanted: str) -> str:
    """Return a hint at a module of the current directory whose name is like ``place``. wanted: the factory."""
    here = [path.stem for path in Path.cwd().iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    near = difflib.get_close_matches(place, here, 1)
    return f"did you mean {near[0]}:{wanted}?" if near else "write package.module:factory"


def one_name(name: str) -> str:
    """Return the one name for all names of one's own network: the path of a file without ``./`` and the like."""
    place, _, wanted = name.rpartition(":")
    return f"{os.path.normpath(place)}:{wanted}" if place.endswith(".py") else name


def is_published(name: str) -> bool:
    """Return whether an existing model is one of torchvision's or timm's."""
    return name not in MODELS and not is_own(name)


def is_pretrained(name: str) -> bool:
    """Return whether a model name is torchvision's or has timm's form; only `build_pretrained` asks timm for it."""
    return name.startswith(TIMM) or name in torchvision_names()


@cache
def torchvision_names() -> frozenset[str]:
    """Return the names of torchvision's classification networks.

    They are read from its source files, because its import takes seconds. Raises UsageError without torchvision.
    """
    found = find_spec("torchvision")
    if found is None or found.origin is None:
        raise UsageError("torchvision is not installed, so its networks are unknown; fastcifar doctor has the cure")
    files = sorted(Path(found.origin).parent.joinpath("models").glob("*.py"))
    return frozenset(name or function for file in files for name, function in _BUILDER.findall(file.read_text("utf-8")))


def check_model(name: str, dropout: float) -> None:
    """Raise UsageError for a model that does not exist, or a dropout that the model does not support."""
    if not 0 <= dropout < 1:
        raise UsageError(f"dropout {dropout} is outside [0, 1); choose a value such as 0.5")
    if name in MODELS:
        return
    if not is_own(name) and not is_pretrained(name):
        raise UsageError(
            f"model {name!r} does not exist; there are {', '.join(MODELS)}, torchvision's classification networks "
            f"such as {', '.join(FEATURED)}, and {TIMM}NAME; your own is package.module:factory"
        )
    if dropout:
        raise UsageError(f"dropout {dropout}: {name} has dropout of its own; leave it at 0")


def check_tune(way: str) -> None:
    """Raise UsageError for an unknown way to fine-tune."""
    if way not in WAYS:
        raise UsageError(f"tune {way!r} is not one of {', '.join(WAYS)}; choose one of them")
