"""The ImageNet weights of a network: read from torch's hub cache, a file or a download, with their hash checked."""

import hashlib
import io
import re
import warnings
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import URLError

import safetensors.torch
import torch
from torch import Tensor

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.models.names import NONE, TIMM
from fastcifar.models.pretrained import Pretrained, preprocessing, published, timm_network
from fastcifar.models.restore import fill
from fastcifar.models.tensor_names import HEAD_OF_A_RUN, translated, without_wrappers
from fastcifar.system.paths import path_of

HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.(pth|pt|safetensors)$")
AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")  # heads that only the training of Inception and GoogLeNet used
INSIDE = ("state_dict", "model_state_dict", "model")
"""The entries of a checkpoint that may be the tensors of a module by name; the first one that is there is read."""


class Weights(NamedTuple):
    """Initial weights.

    identity: their name in a RunSpec, ``none`` or the first 16 hexadecimal digits of a SHA-256: that of the file, or
    that of the names and values of timm's tensors. note: a sentence for people where the tensors stand in the file in
    another form than in a module's state_dict(), else "".
    """

    identity: str
    tensors: Mapping[str, Tensor]
    note: str = ""


def weights_of(model: str, asked: str | None) -> Weights:
    """Return the weights of a model. asked: a file (.pth, .safetensors), ``none``, or None for the published weights.

    Raises UsageError for a file that is missing or cannot be read, or whose hash is wrong. Raises FastcifarError if
    published weights are not cached, and the download fails or has a wrong hash.
    """
    if asked == NONE:
        return Weights(NONE, {})
    if asked is not None:
        return read_weights(path_of(asked))
    if model.startswith(TIMM):
        return _from_timm(model)
    return read_weights(_cached_or_downloaded(published(model)))


def read_weights(path: Path) -> Weights:
    """Read a file of named tensors: a .safetensors file, or one that torch.save wrote.

    Only tensors are unpickled. If the file's name has a hash (NAME-1a2b3c4d.pth), the hash is checked. The tensors may
    be one entry of a checkpoint (see INSIDE), and have the names that DataParallel or torch.compile give them. Raises
    UsageError.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"weights {path}: {error.strerror}") from error
    except MemoryError as error:
        raise FastcifarError(f"weights {path}: there is no memory for its {path.stat().st_size:,} bytes") from error
    digest = hashlib.sha256(content).hexdigest()
    named = HASH_IN_NAME.search(path.name)
    if named and not digest.startswith(named[1]):
        raise UsageError(
            f"weights {path} have the SHA-256 {digest[:16]}..., but their name says {named[1]}: the file is damaged or "
            "another one; delete it and fetch it again, or rename it if that is no hash"
        )
    try:
        if path.suffix == ".safetensors":
            tensors = safetensors.torch.load(content)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # about sparse tensors, which are refused below
                tensors = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except MemoryError as error:
        raise FastcifarError(f"weights {path}: there is no memory for its tensors") from error
    except Exception as error:  # damaged bytes raise errors of any kind
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        why = f"hold {foreign[1]}, and nothing but tensors is read" if foreign else "are damaged, or no tensors by name"
        raise UsageError(f"weights {path} {why} ({type(error).__name__}); save a module's state_dict()") from error
    inside = next((key for key in INSIDE if isinstance(tensors, Mapping) and isinstance(tensors.get(key), Mapping)), "")
    tensors = tensors[inside] if inside else tensors
    if not isinstance(tensors, Mapping) or not tensors:
        raise UsageError(f"weights {path} are not tensors by name; save a module's state_dict()")
    for name, value in tensors.items():
        if reason := _why_not(name, value):
            raise UsageError(f"weights {path} are not tensors by name: {name!r:.60} {reason}; save a state_dict()")
    plain, left_out = without_wrappers(tensors)
    how = [f"entry {inside!r}"] * bool(inside) + [f"names without {part!r}" for part in left_out]
    return Weights(digest[:16], plain, f"weights {path}: read as {', '.join(how)}" if how else "")


def _why_not(name: Any, value: Any) -> str:
    """Return why an entry of a file is no tensor of a network, as a part of a sentence; "" where it is one."""
    if not isinstance(name, str):
        return "is no name"
    if not isinstance(value, Tensor):
        return f"is of type {type(value).__name__}"
    if value.layout != torch.strided or value.is_meta or value.is_quantized:
        return "is a sparse, quantized or empty tensor"
    if value.is_floating_point() and not torch.isfinite(value.float()).all():
        return "has values that are not finite"
    return ""


def load(model: Pretrained, weights: Weights) -> str:
    """Load weights into the backbone of a model, and return a sentence about names and heads for people.

    The new last layer stays unchanged: the last layer of the weights, if they have one, is left out. Raises UsageError
    if another name is missing or unknown, or if a shape does not match.
    """
    backbone = model.backbone.state_dict()
    given, origin = translated(weights.tensors, backbone)
    head = [name for name in given if name.startswith((f"{model.head_place}.", HEAD_OF_A_RUN))]
    tensors = {name: value for name, value in given.items() if name not in head and not name.startswith(AUXILIARY)}
    counts = {name: value for name, value in backbone.items() if name.endswith("num_batches_tracked")}
    try:
        fill(model.backbone, counts | tensors, convert=True)  # files from before torch 0.4.1 have no such counts
    except ValueError as error:
        raise UsageError(
            f"weights {weights.identity}: {error}; they are of another network, so choose others with --weights"
        ) from error
    outputs = f"the last layer of {model.head.out_features} classes is new"
    many = next((len(given[name]) for name in head if given[name].ndim), 0)
    dropped = f"that of the file, of {many:,} classes, is left out" if head else "the file has none"
    return (f"names of {origin}; " if origin else "") + f"{outputs}, and {dropped}"


def _cached_or_downloaded(entry: Any) -> Path:
    name = entry.url.rsplit("/", 1)[1]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if not (folder / name).exists():
        try:
            entry.get_state_dict(progress=False, check_hash=True, weights_only=True)
        except (URLError, HTTPException, OSError, RuntimeError) as error:
            expected = HASH_IN_NAME.search(name)
            raise FastcifarError(
                f"the weights {name} are not in {folder} and cannot be downloaded ({_first_line(error)}); fetch "
                f"{entry.url} elsewhere and put it there, or pass --weights PATH"
                + (f" (its SHA-256 begins with {expected[1]})" if expected else "")
                + "; --weights none trains from scratch"
            ) from error
    return folder / name


def _from_timm(model: str) -> Weights:
    preprocessing(model)  # raises UsageError for a name that does not exist
    try:
        tensors = timm_network(model, pretrained=True).state_dict()
    except Exception as error:  # the hub's client raises many kinds of errors
        raise FastcifarError(
            f"timm's weights of {model} are not cached and cannot be downloaded ({_first_line(error)}); pass "
            "--weights PATH, or --weights none to train from scratch"
        ) from error
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].flatten().view(torch.uint8).numpy().tobytes())
    return Weights(digest.hexdigest()[:16], tensors)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
