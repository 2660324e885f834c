"""Whether runs of one's own network can train in a stack, by a trial of two of them on the CPU."""

from functools import lru_cache

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from fastcifar.augment import IMAGE_SIZE
from fastcifar.errors import first_line
from fastcifar.experiments import PROTOCOLS
from fastcifar.models.own import build_own
from fastcifar.packs.masks import units_of
from fastcifar.runs.spec import RunSpec

CLASSES, CLOSE = 10, 1e-4  # of the trial; the largest difference from a network alone, relative to the largest logit


def why_serial(spec: RunSpec) -> str | None:
    """Return why runs of one's own network train one after another; None where they can train in a stack."""
    side = PROTOCOLS[spec.protocol].recipe(spec.recipe).out_size
    if side != IMAGE_SIZE:
        return f"a stack of one's own networks takes images of {IMAGE_SIZE} x {IMAGE_SIZE} pixels, not {side} x {side}"
    if spec.precision != "float32":
        return "under vmap torch has no mixed precision for one's own network; stack it with --amp off"
    return _why_serial(spec.model, spec.code)


@lru_cache(maxsize=64)
def _why_serial(model: str, code: str) -> str | None:
    networks = [build_own(model, CLASSES, seed, code) for seed in range(2)]
    first = networks[0]
    if next(first.buffers(), None) is not None:
        return "it has buffers, such as BatchNorm's statistics, which vmap cannot update for each run"
    if not all(parameter.requires_grad for parameter in first.parameters()):
        return "some of its weights are frozen"
    if any(parameter.dtype != torch.float32 for parameter in first.parameters()):
        return "some of its weights are not float32"
    images = torch.rand((2, 3, IMAGE_SIZE, IMAGE_SIZE), generator=torch.Generator().manual_seed(0))
    try:
        alone = torch.stack([network(images) for network in networks]).detach()
        parameters, _ = stack_module_state(networks)  # type: ignore[arg-type]
        together = vmap(lambda own: functional_call(first, own, (images,)))(parameters)
        together.square().sum().backward()
        units_of(first.to("meta"))
        quiet = torch.stack([network(images) for network in map(nn.Module.eval, networks[1:])])
    except Exception as error:  # foreign code raises errors of any kind
        return f"vmap fails on it ({first_line(error)})"
    if any(stack.grad is None for stack in parameters.values()):
        return "some of its weights do not affect its output"
    if not torch.equal(quiet[0], alone[1]):
        return "it computes something else in evaluation mode"
    if not float((together.detach() - alone).abs().max()) <= CLOSE * float(alone.abs().max()):
        return "vmap computes something else"
    return None
