"""Arrays as the bytes of .npy files: their header, their hash, and files that are not trusted."""

import hashlib
import io
import tokenize
from math import prod
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from fastcifar.errors import FastcifarError

DAMAGED = (ValueError, KeyError, TypeError, EOFError, SyntaxError, OverflowError, tokenize.TokenError)
"""The errors that numpy raises for the header of a damaged file."""


def header_of(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Return the header of a .npy file in version 1.0 of its format."""
    file = io.BytesIO()
    fields = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(file, fields)
    return file.getvalue()


def entry_of(array: NDArray[Any]) -> dict[str, Any]:
    """Return the bytes and the sha256 of the .npy file of an array, as in a manifest."""
    header = header_of(array.dtype, array.shape)
    digest = hashlib.sha256(header)
    digest.update(np.ascontiguousarray(array).data)
    return {"bytes": len(header) + array.nbytes, "sha256": digest.hexdigest()}


def parsed(content: bytes, where: str) -> NDArray[Any]:
    """Return the array of a .npy file, read-only, without unpickling anything. where: the file's name, for messages.

    Raises FastcifarError for a file that is damaged, cut short, or holds Python objects.
    """
    file = io.BytesIO(content)
    try:
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(file)]
        shape, fortran, dtype = read(file)
    except DAMAGED as error:
        raise FastcifarError(f"{where} is not a readable .npy file ({error}); fetch it again") from error
    if dtype.hasobject or dtype.names is not None:
        raise FastcifarError(f"{where} holds {dtype}, not plain numbers; do not trust this file")
    size, needed = len(content) - file.tell(), prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or size != needed or not needed:
        raise FastcifarError(
            f"{where} holds {size:,} bytes of values; its shape {shape} needs {needed:,}: fetch it again"
        )
    values = np.frombuffer(content, dtype, offset=file.tell())
    return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)
