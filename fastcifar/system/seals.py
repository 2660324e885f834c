"""Seals: checksums that fastcifar writes into its own files, so that a reader sees whether they are as written.

A seal finds accidents and edits by hand. It is no signature: who changes a file can compute its seal anew.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

SEAL = "seal"
"""The key of a seal in a JSON object, and in the metadata of a file of tensors."""
BLOCK = 1 << 20  # bytes read at a time
DIGITS = 32  # hexadecimal digits of a seal, which is 128 bits of a SHA-256


def seal_of(values: Mapping[str, Any], before: str = "") -> str:
    """Return the seal of a JSON object, without its entry SEAL.

    values: of JSON's types. before: the seal of the object that this one follows in a chain. The seal does not depend
    on the spaces of the text that the object is read from.
    """
    text = json.dumps({key: value for key, value in values.items() if key != SEAL})
    return hashlib.sha256(f"{before}{text}".encode()).hexdigest()[:DIGITS]


def sealed(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return a JSON object with its seal as the last entry.

    Lone surrogates, which stand for bytes of a file's name that are no text, become question marks.
    """
    plain = json.loads(json.dumps(values, ensure_ascii=False).encode(errors="replace"))
    return {**{key: value for key, value in plain.items() if key != SEAL}, SEAL: seal_of(plain, before)}


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal. Raises OSError where it cannot be read."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def tensors_seal(tensors: "Mapping[str, Tensor]", note: str) -> str:
    """Return the seal of tensors, with their names, dtypes and shapes, and of a text that belongs to them."""
    import torch

    digest = hashlib.sha256(note.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()[:DIGITS]
