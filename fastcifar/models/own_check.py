"""Whether one's own network can be trained: what it must return, what it may keep, and what its seed may decide."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fastcifar.errors import UsageError
from fastcifar.models.last_layer import last_layer
from fastcifar.models.own import alone, build_own, code_of, made
from fastcifar.rng.generators import seeded, states
from fastcifar.system.foreign import place_of, said


def check_own(name: str, classes: int, side: int, new_head: bool = False) -> None:
    """Raise UsageError unless one's own network can train on images (B, 3, side, side): it must return (B, classes),
    have weights, each in memory of its own, keep no state but tensors, and draw no random numbers from a global
    generator.

    new_head: as for `build_own`. The last layer can be replaced only if the network returns what this layer returns,
    and if all that a seed decides is in the network's state_dict(), where a file of weights replaces it.
    """
    code, images = code_of(name), torch.zeros((2, 3, side, side))
    model = build_own(name, classes, 0, code, new_head)
    _check_state(name, classes, model)
    if new_head:
        noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
        with alone, seeded(0, 0), torch.no_grad():
            _check_end(name, made(name, classes, code).eval(), noise)
        _check_seeds(name, classes, code, noise, model)
    with alone, seeded(0, 0), torch.no_grad():
        before = states()
        logits = _result(name, model, images)
        drew = [library for library, state in states().items() if state != before[library]]
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
    if shape != (2, classes):
        raise UsageError(
            f"{name} returns {shape} for images of shape {tuple(images.shape)}; return logits of shape {(2, classes)}"
        )
    if drew:
        raise UsageError(
            f"{name} draws random numbers from the global generator of {drew[0]} in its forward pass, so its runs "
            "could not be repeated; use layers such as nn.Dropout, whose random numbers fastcifar replaces"
        )


def _result(name: str, model: nn.Module, images: Tensor) -> Any:
    """Return what a network returns for images. Raises UsageError where it fails."""
    try:
        return model(images)
    except UsageError:
        raise
    except Exception as error:  # foreign code raises errors of any kind
        replaced = "; the last layer is replaced by an Identity, so the network must not use its values"
        raise UsageError(
            f"{name} fails on images of shape {tuple(images.shape)}: {said(error)}{place_of(error)}"
            + (replaced if isinstance(error, AttributeError) and "Identity" in str(error) else "")
        ) from error


def _check_end(name: str, network: nn.Module, images: Tensor) -> None:
    """Raise UsageError where a network changes what its last linear layer returns, by a softmax for example.

    Such a change would be made to the inputs of the layer that is replaced. Behind a convolution a mean must follow.
    """
    place, _ = last_layer(network)
    layer, returned = network.get_submodule(place), list[Tensor]()
    hook = layer.register_forward_hook(lambda module, inputs, output: returned.append(output))
    result = _result(name, network, images)
    hook.remove()
    if not isinstance(layer, nn.Linear) or not isinstance(result, Tensor):
        return
    if not returned or result.shape != returned[-1].shape or not torch.equal(result, returned[-1]):
        raise UsageError(
            f"{name} does not return what its last layer {place} returns, and with a new last layer the rest would "
            "come before it; return the logits of that layer, without a softmax or another function of them"
        )


def _check_seeds(name: str, classes: int, code: str, images: Tensor, one: nn.Module) -> None:
    """Raise UsageError where the network ``one`` and that of another seed differ, although they have the same
    state_dict().
    """
    other = build_own(name, classes, 1, code, new_head=True)
    other.load_state_dict(one.state_dict())
    with alone, seeded(0, 0), torch.no_grad():
        results = [_result(name, each.eval(), images) for each in (one, other)]
    one.train()
    if not torch.equal(*results):
        raise UsageError(
            f"{name} depends on random values that are not in its state_dict(), so weights from a file do not replace "
            "them; keep them in parameters or in persistent buffers"
        )


def _check_state(name: str, classes: int, model: nn.Module) -> None:
    """Raise UsageError for a network without weights, and for a state that checkpoints cannot hold."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UsageError(f"{name}({classes}) has no weights to train; return a network with parameters")
    tensors = dict(model.state_dict())
    if strange := [place for place, value in tensors.items() if not isinstance(value, Tensor)]:
        raise UsageError(
            f"{name}: {strange[0]} of its state_dict() is a {type(tensors[strange[0]]).__name__}, and checkpoints hold "
            "tensors only; have get_extra_state return a tensor, or keep the value in a buffer"
        )
    if lazy := [place for place, value in tensors.items() if is_lazy(value)]:
        raise UsageError(
            f"{name}: {lazy[0]} has no size before the first batch; give each layer its size, not a lazy one"
        )
    twice = _tied(tensors)
    if twice:
        raise UsageError(
            f"{name}: the tensors {twice[0]} and {twice[1]} share their memory, which checkpoints cannot store; give "
            "each layer weights of its own"
        )


def _tied(tensors: dict[str, Tensor]) -> tuple[str, str] | None:
    """Return the names of two tensors in the same memory, or None."""
    places: dict[int, str] = {}
    for name, tensor in tensors.items():
        if tensor.numel() and (other := places.setdefault(tensor.untyped_storage().data_ptr(), name)) != name:
            return other, name
    return None
