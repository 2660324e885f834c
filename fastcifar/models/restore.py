"""Tensors by name into a module: compared with the module's own tensors, then copied into them."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

LISTED = 6  # names of tensors of a kind in a message


def fill(module: nn.Module, tensors: Mapping[str, Tensor], convert: bool = False) -> None:
    """Copy tensors into the parameters and buffers of a module, which stay the same tensors.

    tensors: the values of `module.state_dict()`, by name. convert: also take floating-point values of another dtype,
    and indices and counts of any dtype. Raises ValueError in words for people, before any value is copied, where a
    tensor is missing, unknown, or of another shape or dtype.

    Plain tensors have lost the ``_metadata`` of a state_dict, which names a version for each module. Some modules take
    tensors without a version for those of an older class and refuse or change them (torchvision's MNASNet does).
    Tensors of the names and shapes of this module are of its own version, so they get the module's metadata.
    """
    state = module.state_dict()
    if wrong := difference(state, tensors, convert):
        raise ValueError(wrong)
    state.update(tensors)  # keeps _metadata
    module.load_state_dict(state)


def difference(own: Mapping[str, Tensor], given: Mapping[str, Tensor], convert: bool = False) -> str:
    """Return how tensors differ from those of the same names: the first one, and the number and names of each kind.

    The result is "" where they fit. convert: as for `fill`.
    """
    both = [name for name in own if name in given]
    kinds = {
        "missing": [name for name in own if name not in given],
        "unknown": [name for name in given if name not in own],
        "of another shape": [name for name in both if given[name].shape != own[name].shape],
        "of another dtype": [name for name in both if not _dtype_fits(own[name], given[name], convert)],
    }
    first = next(((kind, names[0]) for kind, names in kinds.items() if names), None)
    if first is None:
        return ""
    counted = ", ".join(f"{len(names)} {kind}{_listed(names, first[1])}" for kind, names in kinds.items() if names)
    return f"the tensor {first[1]!r} is {first[0]}{_compared(own, given, *first)} (in all {counted})"


def _listed(names: Sequence[str], said: str) -> str:
    """Return a list of names for a message; "" for the one name that the message has said."""
    if list(names) == [said]:
        return ""
    return f": {', '.join(names[:LISTED])}{', ...' if len(names) > LISTED else ''}"


def _dtype_fits(own: Tensor, given: Tensor, convert: bool) -> bool:
    if convert:
        return given.is_floating_point() or not own.is_floating_point()
    return given.dtype == own.dtype


def _compared(own: Mapping[str, Tensor], given: Mapping[str, Tensor], kind: str, name: str) -> str:
    if kind == "of another shape":
        return f", {tuple(given[name].shape)} in place of {tuple(own[name].shape)}"
    if kind == "of another dtype":
        return f", {given[name].dtype} in place of {own[name].dtype}".replace("torch.", "")
    return ""
