"""Initial weights as a function of the seed alone: PyTorch's default distributions, drawn by Philox."""

import math
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from fastcifar.philox import Stream, words

EMBEDDING_STD = 0.02  # of class tokens and position embeddings; Dosovitskiy et al., ICLR 2021, and BERT before it
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
Module = TypeVar("Module", bound=nn.Module)


def initialise(model: Module, seed: int) -> Module:
    """Set every parameter of ``model`` (on the CPU, float32) and return it.

    Linear and Conv2d: weights and biases uniform in ±1/sqrt(fan in), which is what torch's reset_parameters amounts
    to; norms: 1 and 0; a parameter that a module holds itself is an embedding: normal, EMBEDDING_STD.
    Element e of parameter number t comes from counter (e, t): independent of every other tensor's size.
    """
    number = 0
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            with torch.no_grad():
                if isinstance(module, NORMS):
                    parameter.fill_(1.0 if name == "weight" else 0.0)
                elif isinstance(module, nn.Linear | nn.Conv2d):
                    bound = 1 / math.sqrt(module.weight[0].numel())
                    parameter.copy_(_uniform(parameter, seed, number) * (2 * bound) - bound)
                else:
                    parameter.copy_(_normal(parameter, seed, number) * EMBEDDING_STD)
            number += 1
    return model


def _words(like: Tensor, seed: int, number: int) -> tuple[np.ndarray, ...]:
    return words(seed, Stream.WEIGHTS, np.arange(like.numel()), epoch=number)


def _uniform(like: Tensor, seed: int, number: int) -> Tensor:
    """In [0, 1), in steps of 2**-24."""
    first, _, _, _ = _words(like, seed, number)
    return torch.from_numpy((first >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)).view(like.shape)


def _normal(like: Tensor, seed: int, number: int) -> Tensor:
    """Standard normal, by Box and Muller (1958)."""
    first, second, _, _ = _words(like, seed, number)
    radius = np.sqrt(-2 * np.log((first + 1.0) / 2**32))
    return torch.from_numpy((radius * np.cos(2 * np.pi * second / 2**32)).astype(np.float32)).view(like.shape)
