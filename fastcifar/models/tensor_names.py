"""The names of a file's tensors, translated into those of the plain module that the file is for.

Tensors have other names where a module was wrapped when it was saved, where a run of fastcifar kept them, and in the
files of some well-known origins.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping

from torch import Tensor

COMPILED, PARALLEL = "_orig_mod.", "module."  # the parts of names that torch.compile and DataParallel add
RUN = "a run of fastcifar"
"""The origin of the names in a run's model.safetensors."""
HEAD_OF_A_RUN = "the last layer of a run: "
"""The prefix that `translated` gives the tensors of the last layer of a run whose network is a `Pretrained`."""
Names = Mapping[str, Tensor]

# Old files have norm.1 for norm1; torchvision renames these tensors in the same way.
_DENSENET_OF_OLD = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")

_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
"""Layers outside of the blocks of an EfficientNet: their names in EfficientNet-PyTorch, and in timm."""
_EXPANDING = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
              "_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand", "_project_conv": "conv_pwl",
              "_bn2": "bn3"}  # fmt: skip
"""Layers of a block that widens its input, as most blocks do: their names in EfficientNet-PyTorch, and in timm."""
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand",
          "_project_conv": "conv_pw", "_bn2": "bn2"}  # fmt: skip
"""Layers of a block without such a widening, as in the first stage."""
_BLOCK = re.compile(r"_blocks\.(\d+)\.(\w+)\.(\w+)")
_TIMMS_BLOCK = re.compile(r"blocks\.(\d+)\.(\d+)\.")


def without_wrappers(tensors: Names) -> tuple[Names, list[str]]:
    """Return the tensors with the names that the plain module gives them, and the parts that were left out of names.

    DataParallel puts ``module.`` before all names. torch.compile puts ``_orig_mod.`` before the names of each module
    that it compiled, so that it may stand within names, too.
    """
    left_out = []
    if any(COMPILED in name for name in tensors):
        left_out.append(COMPILED)
        tensors = {name.replace(COMPILED, ""): value for name, value in tensors.items()}
    if all(name.startswith(PARALLEL) for name in tensors):
        left_out.append(PARALLEL)
        tensors = {name.removeprefix(PARALLEL): value for name, value in tensors.items()}
    return tensors, left_out


def translated(tensors: Names, wanted: Collection[str]) -> tuple[Names, str]:
    """Return tensors with the names of the network that they are for, and the origin of their former names, or "".

    wanted: the names of the network's tensors. The origin is the one that gives the most of these names; one that
    gives less than half of them is none, so that messages have the file's own names. Names that an origin does not know
    stay.
    """

    def fitting(names: Iterable[str]) -> int:
        return sum(name in wanted for name in names)

    best, origin, most = dict[str, str](), "", fitting(tensors)
    for each, of_names in _ORIGINS.items():
        new = of_names(tensors, wanted)
        count = fitting(new.get(name, name) for name in tensors)
        if count > most and 2 * count >= len(wanted):
            best, origin, most = new, each, count
    return {best.get(name, name): value for name, value in tensors.items()}, origin


def _densenet(given: Iterable[str], wanted: Collection[str]) -> dict[str, str]:
    return {name: _DENSENET_OF_OLD.sub(r"\1\2", name) for name in given}


def _efficientnet(given: Iterable[str], wanted: Collection[str]) -> dict[str, str]:
    """Return timm's names for those of EfficientNet-PyTorch, which numbers the blocks through all stages."""
    stages = sorted({(int(stage), int(block)) for stage, block in _TIMMS_BLOCK.findall(" ".join(wanted))})
    blocks = [_BLOCK.fullmatch(name) for name in given]
    expanding = {found[1] for found in blocks if found and found[2] == "_expand_conv"}
    new = {}
    for name in given:
        layer, _, value = name.rpartition(".")
        found = _BLOCK.fullmatch(name)
        if found is None:
            if layer in _OUTSIDE:
                new[name] = f"{_OUTSIDE[layer]}.{value}"
        elif int(found[1]) < len(stages):
            stage, block = stages[int(found[1])]
            layers = _EXPANDING if found[1] in expanding else _PLAIN
            new[name] = f"blocks.{stage}.{block}.{layers.get(found[2], found[2])}.{value}"
    return new


def _of_a_run(given: Iterable[str], wanted: Collection[str]) -> dict[str, str]:
    plain = {name: re.sub(r"^(backbone|network)\.", "", name) for name in given}
    if any(name.startswith("backbone.") for name in plain):
        plain |= {name: HEAD_OF_A_RUN + name for name in plain if name.startswith("head.")}
    return plain


def _lightning(given: Iterable[str], wanted: Collection[str]) -> dict[str, str]:
    return {name: re.sub(r"^(model|net|network)\.", "", name) for name in given}


_ORIGINS: dict[str, Callable[[Iterable[str], Collection[str]], dict[str, str]]] = {
    RUN: _of_a_run,
    "EfficientNet-PyTorch": _efficientnet,
    "an old DenseNet": _densenet,
    "a module within another": _lightning,
}
"""The origins of names. A function returns the network's names by those of the file, if it knows them."""
