"""Initial weights as a function of the seed alone: PyTorch's default distributions, drawn with Philox."""

import math
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from fastcifar.kernels.cpu.dice import fill_uniform, fill_words
from fastcifar.rng.philox import Stream, key_of

EMBEDDING_STD = 0.02  # class tokens and position embeddings: Dosovitskiy et al., ICLR 2021, following BERT
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
Module = TypeVar("Module", bound=nn.Module)


def initialise(model: Module, seed: int) -> Module:
    """Set every parameter of ``model`` (on the CPU, float32) and return it.

    Linear and Conv2d get weights and biases uniform in ±1/sqrt(fan in), the distribution of torch's reset_parameters.
    Norms get the weight 1 and the bias 0. Any other parameter is an embedding: normal with standard deviation
    EMBEDDING_STD. Element e of parameter number t comes from the counter (e, t), so no value depends on the size of
    another tensor. Raises UsageError for a seed outside [0, 2**64).
    """
    key_of(seed)
    number = 0
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            with torch.no_grad():
                if isinstance(module, NORMS):
                    parameter.fill_(1.0 if name == "weight" else 0.0)
                elif isinstance(module, nn.Linear | nn.Conv2d):
                    _fill_uniform(parameter, 1 / math.sqrt(module.weight[0].numel()), seed, number)
                else:
                    parameter.copy_(_normal(parameter, seed, number) * EMBEDDING_STD)
            number += 1
    return model


def _fill_uniform(parameter: Tensor, bound: float, seed: int, number: int) -> None:
    """Fill a parameter with uniform values in [-bound, bound), in steps of bound / 2**23."""
    values = np.empty(parameter.numel(), np.float32)
    low, width = np.float32(-bound), np.float32(2 * bound)
    fill_uniform(int(Stream.WEIGHTS), np.uint64(seed), number, width, low, values)
    parameter.copy_(torch.from_numpy(values).view(parameter.shape))


def _normal(like: Tensor, seed: int, number: int) -> Tensor:
    """Return standard normal float32 values in the shape of ``like``, by the method of Box and Muller (1958).

    The logarithm and cosine are numpy's, because other libraries may round differently.
    """
    first, second = np.empty((2, like.numel()), np.uint32)
    fill_words(int(Stream.WEIGHTS), np.uint64(seed), number, first, second)
    radius = np.sqrt(-2 * np.log((first + 1.0) / 2**32))
    return torch.from_numpy((radius * np.cos(2 * np.pi * second / 2**32)).astype(np.float32)).view(like.shape)
