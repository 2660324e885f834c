"""Initial weights as a function of the seed alone: PyTorch's default distributions, drawn by Philox."""

import math
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from fastcifar.kernels.cpu.dice import fill_uniform, fill_words
from fastcifar.rng.philox import Stream, key_of

EMBEDDING_STD = 0.02  # of class tokens and position embeddings; Dosovitskiy et al., ICLR 2021, and BERT before it
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
Module = TypeVar("Module", bound=nn.Module)


def initialise(model: Module, seed: int) -> Module:
    """Set every parameter of ``model`` (on the CPU, float32) and return it.

    Linear and Conv2d: weights and biases uniform in ±1/sqrt(fan in), which is what torch's reset_parameters amounts
    to; norms: 1 and 0; a parameter that a module holds itself is an embedding: normal, EMBEDDING_STD.
    Element e of parameter number t comes from counter (e, t): independent of every other tensor's size. Raises
    UsageError for a seed outside [0, 2**64).
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
    """Uniform in [-bound, bound), in steps of bound / 2**23."""
    values = np.empty(parameter.numel(), np.float32)
    low, width = np.float32(-bound), np.float32(2 * bound)
    fill_uniform(int(Stream.WEIGHTS), np.uint64(seed), number, width, low, values)
    parameter.copy_(torch.from_numpy(values).view(parameter.shape))


def _normal(like: Tensor, seed: int, number: int) -> Tensor:
    """Standard normal, by Box and Muller (1958). numpy's logarithm and cosine: those of others may round otherwise."""
    first, second = np.empty((2, like.numel()), np.uint32)
    fill_words(int(Stream.WEIGHTS), np.uint64(seed), number, first, second)
    radius = np.sqrt(-2 * np.log((first + 1.0) / 2**32))
    return torch.from_numpy((radius * np.cos(2 * np.pi * second / 2**32)).astype(np.float32)).view(like.shape)
