"""ImageNet networks with a new last layer: torchvision's under their own names, timm's under ``timm:NAME``.

Their dropout and stochastic depth use `Noise`, as in every other network, instead of a global generator.
"""

import importlib
from importlib.util import find_spec
from typing import Any, NamedTuple

from torch import Tensor, nn

from fastcifar.augment import IMAGE_SIZE
from fastcifar.errors import UsageError
from fastcifar.models.dropout import Dropout, Noise
from fastcifar.models.initial import initialise
from fastcifar.models.last_layer import last_layer
from fastcifar.models.names import TIMM
from fastcifar.recipes import NORMALISATIONS
from fastcifar.system.cures import extra
from fastcifar.system.vision import InterpolationMode, StochasticDepth, functional, torchvision

BY_CHANNEL = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


class Preprocessing(NamedTuple):
    """The preprocessing of images that a network's weights require."""

    recipe: str
    """A name for `augment.recipe`: the resize, crop and normalisation that our kernels can do."""
    enlarge: tuple[int, int, str] | None = None
    """(resize in pixels, crop in pixels, interpolation) that the network itself applies to normalised images.

    None if our kernels can do the whole preprocessing."""


class Pretrained(nn.Module):
    """A pretrained classifier in two parts: ``backbone`` computes features, and ``head`` computes the classes."""

    def __init__(self, network: nn.Module, classes: int, enlarge: tuple[int, int, str] | None = None) -> None:
        """Replace the last layer of ``network`` by a new linear one with ``classes`` outputs.

        The last layer may be linear or a 1 x 1 convolution, as in SqueezeNet. The mean of such a convolution over the
        positions is a linear layer on the mean of its inputs, so ``backbone`` keeps the pool behind the convolution,
        and ``head`` comes after it. SqueezeNet's ReLU between the two then changes nothing, as it gets values from
        0 up, and logits may be negative. Raises UsageError where the last layer is another one. enlarge: see
        `Preprocessing`; images that a recipe has enlarged are taken as they are.
        """
        super().__init__()
        self._now = CurrentNoise()
        self.enlarge = enlarge
        place, inputs = last_layer(network)
        network.set_submodule(place, nn.Identity())
        self.backbone = with_our_noise(network, self._now)
        self.head = nn.Linear(inputs, classes)
        self.head_place = place
        """The name of the last layer in the weights of the whole network."""

    def features(self, images: Tensor, noise: Noise | None = None) -> Tensor:
        """Return the inputs of the last layer, (B, F), of images (B, 3, S, S)."""
        if self.enlarge is not None and images.shape[-1] == IMAGE_SIZE:
            resize, crop, interpolation = self.enlarge
            images = functional.resize(images, [resize], InterpolationMode(interpolation), antialias=True)
            images = functional.center_crop(images, [crop])
        self._now.noise = noise
        try:
            features: Tensor = self.backbone(images)
        finally:
            self._now.noise = None
        return features

    def forward(self, images: Tensor, noise: Noise | None = None) -> Tensor:
        features = self.features(images, noise)
        shape = tuple(features.shape) if isinstance(features, Tensor) else f"a {type(features).__name__}"
        if shape != (len(images), self.head.in_features):
            raise UsageError(
                f"the network gives {shape} to the layer that took the place of {self.head_place}, not "
                f"{(len(images), self.head.in_features)}, so it does not end there, or it takes images of another "
                "size; choose another network or recipe"
            )
        logits: Tensor = self.head(features)
        return logits


class CurrentNoise:
    """The noise of the current forward pass. A network and its dropout layers share one object."""

    noise: Noise | None = None


class _NoisyDropout(nn.Module):
    """A dropout layer inside a network whose forward pass takes no noise.

    whole: drop whole samples, as stochastic depth does. channels: drop whole channels.
    """

    def __init__(self, p: float, layer: int, now: CurrentNoise, whole: bool = False, channels: bool = False) -> None:
        super().__init__()
        self._drop, self._whole, self._now = Dropout(p, layer, channels), whole, now
        self.p = p  # some of timm's networks read this attribute

    def forward(self, x: Tensor) -> Tensor:
        noise = self._now.noise if self.training else None
        if noise is None or not self._whole or self.p == 0:
            return self._drop(x, noise)
        return x * noise.kept(self.p, self._drop.layer, 1).view(-1, *[1] * (x.ndim - 1)).to(x.dtype)


def with_our_noise(network: nn.Module, now: CurrentNoise) -> nn.Module:
    """Replace dropout and stochastic depth in a network by layers that use the noise of ``now``."""
    number = 0
    for name, module in list(network.named_modules(remove_duplicate=False)):
        if isinstance(module, (nn.Dropout, StochasticDepth, *BY_CHANNEL)):
            whole = isinstance(module, StochasticDepth)
            if whole and module.mode != "row":
                raise UsageError(f"stochastic depth of mode {module.mode!r} at {name} cannot be drawn per sample")
            channels = isinstance(module, BY_CHANNEL)
            network.set_submodule(name, _NoisyDropout(module.p, number, now, whole, channels))
            number += 1
    return network


def build_pretrained(name: str, classes: int, seed: int) -> Pretrained:
    """Return the network of a name with ``classes`` outputs and the initial weights of ``seed``, not ImageNet's.

    Raises UsageError for a name that does not exist, or a network whose last layer cannot be replaced.
    """
    enlarge = preprocessing(name).enlarge
    if name.startswith(TIMM):
        network = timm_network(name, pretrained=False)
    else:
        network = torchvision.models.get_model(name, weights=None, **as_published(name))
    return initialise(Pretrained(network, classes, enlarge), seed)


def as_published(name: str) -> dict[str, Any]:
    """Return the options that torchvision's builder sets for its published weights."""
    if name in ("googlenet", "inception_v3"):  # these normalise to mean and std 0.5 themselves
        return {"transform_input": True, "aux_logits": False, "init_weights": False}
    if name.startswith("vit_"):  # the image size sets the number of position embeddings
        return {"image_size": published(name).transforms().crop_size[0]}
    return {}


def preprocessing(name: str) -> Preprocessing:
    """Return the preprocessing that a network's weights declare.

    Raises UsageError for an unknown timm network, or a normalisation that no recipe has.
    """
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
    preset = published(name).transforms()
    return _as_recipe(
        name, preset.resize_size[0], preset.crop_size[0], preset.interpolation.value, preset.mean, preset.std
    )


def published(name: str) -> Any:
    """Return torchvision's enum entry for the weights of a network: IMAGENET1K_V1, or the default if it is missing."""
    weights = torchvision.models.get_model_weights(name)
    return getattr(weights, "IMAGENET1K_V1", weights.DEFAULT)


def timm_network(name: str, pretrained: bool) -> nn.Module:
    """Return timm's network of a name. pretrained: load its cached or downloaded weights, else random ones."""
    network: nn.Module = _timm().create_model(name.removeprefix(TIMM), pretrained=pretrained)
    return network


def _as_recipe(name: str, resize: int, crop: int, interpolation: str, mean: Any, std: Any) -> Preprocessing:
    wanted = (tuple(mean), tuple(std))
    prefix = next((prefix for prefix, values in NORMALISATIONS.items() if values == wanted), None)
    if prefix is None:
        raise UsageError(f"the weights of {name!r} want mean {mean} and std {std}, which no recipe has")
    if interpolation != "bilinear" or (resize - crop) % 2:
        return Preprocessing(prefix, (resize, crop, interpolation))
    # the report has its own names for these two
    short = {(256, 224): "imagenet256", (384, 384): "imagenet384"}.get((resize, crop)) if prefix == "imagenet" else None
    return Preprocessing(short or f"{prefix}{resize}-{crop}")


def _timm() -> Any:
    if find_spec("timm") is None:
        raise UsageError(f"models called timm:NAME need timm: {extra('timm')}")
    return importlib.import_module("timm")
