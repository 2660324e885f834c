"""ImageNet networks with a last layer for other classes: torchvision's by their name, timm's as ``timm:NAME``.

Their dropout and stochastic depth draw from `Noise` like every other network's, not from a global generator.
"""

import importlib
from importlib.util import find_spec
from typing import Any, NamedTuple

import torchvision
from torch import Tensor, nn
from torchvision.ops import StochasticDepth
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from fastcifar.augment import NORMALISATIONS
from fastcifar.errors import UsageError
from fastcifar.models.dropout import Dropout, Noise
from fastcifar.models.initial import initialise

FEATURED = ("mobilenet_v3_small", "efficientnet_v2_s", "resnet18")
"""experiment 4's networks"""
TIMM = "timm:"


class Preprocessing(NamedTuple):
    """What a network's weights want done to images."""

    recipe: str
    """a name that `augment.recipe` knows: enlarging, cropping and normalising, as far as our kernels do it"""
    enlarge: tuple[int, int, str] | None = None
    """resize and crop, pixels, and interpolation, where our kernels do not: done on normalised images by the network"""


class Pretrained(nn.Module):
    """``forward(images, noise=None)`` around a classifier: ``backbone`` to features, ``head`` to classes."""

    def __init__(self, network: nn.Module, classes: int, enlarge: tuple[int, int, str] | None = None) -> None:
        """network: whatever ends in a linear layer, which ``classes`` outputs replace. Raises UsageError otherwise."""
        super().__init__()
        self._now = _Now()
        self._enlarge = enlarge
        place, last = _last_linear(network)
        network.set_submodule(place, nn.Identity())
        self.backbone = _with_our_noise(network, self._now)
        self.head = nn.Linear(last.in_features, classes)
        self.head_place = place
        """the name that the last layer has in weights made for the whole network"""

    def features(self, images: Tensor, noise: Noise | None = None) -> Tensor:
        """(B, 3, S, S) to (B, F): what the last layer is given."""
        if self._enlarge is not None:
            resize, crop, interpolation = self._enlarge
            images = functional.resize(images, [resize], InterpolationMode(interpolation), antialias=True)
            images = functional.center_crop(images, [crop])
        self._now.noise = noise
        try:
            features: Tensor = self.backbone(images)
        finally:
            self._now.noise = None
        return features

    def forward(self, images: Tensor, noise: Noise | None = None) -> Tensor:
        logits: Tensor = self.head(self.features(images, noise))
        return logits


class _Now:
    """The noise of the forward pass that is under way: one object for a network and the dropouts in it."""

    noise: Noise | None = None


class _Told(nn.Module):
    """A dropout within a network that passes no noise on. whole: a sample is kept or lost whole."""

    def __init__(self, p: float, layer: int, whole: bool, now: _Now) -> None:
        super().__init__()
        self._drop, self._whole, self._now = Dropout(p, layer), whole, now
        self.p = p  # some of timm's networks ask their dropouts

    def forward(self, x: Tensor) -> Tensor:
        noise = self._now.noise if self.training else None
        if noise is None or not self._whole or self.p == 0:
            return self._drop(x, noise)
        return x * noise.kept(self.p, self._drop.layer, 1).view(-1, *[1] * (x.ndim - 1)).to(x.dtype)


def _with_our_noise(network: nn.Module, now: _Now) -> nn.Module:
    number = 0
    for name, module in list(network.named_modules(remove_duplicate=False)):
        if isinstance(module, nn.Dropout | StochasticDepth):
            whole = isinstance(module, StochasticDepth)
            if whole and module.mode != "row":
                raise UsageError(f"stochastic depth of mode {module.mode!r} at {name} cannot be drawn by sample")
            network.set_submodule(name, _Told(module.p, number, whole, now))
            number += 1
    return network


def _last_linear(network: nn.Module) -> tuple[str, nn.Linear]:
    linear = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UsageError(f"{type(network).__name__} does not end in one linear layer, which is what would be replaced")
    return linear[-1]


def is_pretrained(name: str) -> bool:
    """Whether a model name is torchvision's or timm's (in form: whether timm knows it shows when it is built)."""
    return name.startswith(TIMM) or name in torchvision.models.list_models(module=torchvision.models)


def build(name: str, classes: int, seed: int) -> Pretrained:
    """The network of a name with ``classes`` outputs and the initial weights of ``seed``, none of ImageNet's yet.

    Raises UsageError for a name that does not exist, or a network that does not end in a linear layer.
    """
    enlarge = preprocessing(name).enlarge
    if name.startswith(TIMM):
        network = timm_network(name, pretrained=False)
    else:
        network = torchvision.models.get_model(name, weights=None, **_as_published(name))
    return initialise(Pretrained(network, classes, enlarge), seed)


def _as_published(name: str) -> dict[str, Any]:
    """What torchvision's builder changes where it is asked for the published weights."""
    if name in ("googlenet", "inception_v3"):  # which want 0.5 as mean and std, and do that themselves
        return {"transform_input": True, "aux_logits": False, "init_weights": False}
    if name.startswith("vit_"):  # as many positions as patches
        return {"image_size": published(name).transforms().crop_size[0]}
    return {}


def preprocessing(name: str) -> Preprocessing:
    """What the weights of a network declare. Raises UsageError for a normalisation that no recipe has."""
    if name.startswith(TIMM):
        timm = _timm()
        try:
            declared = timm.get_pretrained_cfg(name.removeprefix(TIMM))
        except RuntimeError as error:
            raise UsageError(f"model {name!r}: {error}") from error
        if declared is None:
            raise UsageError(f"model {name!r} does not exist in timm {timm.__version__}; timm.list_models() has names")
        crop = declared.input_size[-1]
        return _as_recipe(
            name, int(crop / declared.crop_pct), crop, declared.interpolation, declared.mean, declared.std
        )
    asked = published(name).transforms()
    return _as_recipe(name, asked.resize_size[0], asked.crop_size[0], asked.interpolation.value, asked.mean, asked.std)


def published(name: str) -> Any:
    """torchvision's weights of a network, an entry of its enum: IMAGENET1K_V1 where there is one."""
    weights = torchvision.models.get_model_weights(name)
    return getattr(weights, "IMAGENET1K_V1", weights.DEFAULT)


def timm_network(name: str, pretrained: bool) -> nn.Module:
    """timm's network of a name, with its downloaded or cached weights or random ones."""
    network: nn.Module = _timm().create_model(name.removeprefix(TIMM), pretrained=pretrained)
    return network


def _as_recipe(name: str, resize: int, crop: int, interpolation: str, mean: Any, std: Any) -> Preprocessing:
    wanted = (tuple(mean), tuple(std))
    prefix = next((prefix for prefix, values in NORMALISATIONS.items() if values == wanted), None)
    if prefix is None:
        raise UsageError(f"the weights of {name!r} want mean {mean} and std {std}, which no recipe has")
    if interpolation != "bilinear" or (resize - crop) % 2:
        return Preprocessing(prefix, (resize, crop, interpolation))
    # two have names of their own, in the report's terms
    short = {(256, 224): "imagenet256", (384, 384): "imagenet384"}.get((resize, crop)) if prefix == "imagenet" else None
    return Preprocessing(short or f"{prefix}{resize}-{crop}")


def _timm() -> Any:
    if find_spec("timm") is None:
        raise UsageError("models called timm:NAME need timm: pip install timm")
    return importlib.import_module("timm")
