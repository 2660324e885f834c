"""A pickle reader that makes only the objects of a CIFAR-10 batch: dicts, lists, strings, numbers and uint8 arrays.

A pickle is a program, and its calls are dangerous. Here, the few names that a CIFAR batch calls refer to the harmless
stand-ins below, which are made anew for each file. Every other name is refused. Even numpy is called only after the
shape, type and size of an array have been checked.
"""

import io
import pickle
import pickletools
from math import prod
from typing import Any

import numpy as np

from fastcifar.errors import FastcifarError
from fastcifar.show.text import quoted

DEEPEST = 8
"""The most tuples within one another; in a CIFAR batch there are 3. To hash deeper ones takes exponential time, or ends
the process.
"""
MEMO = 1 << 20
"""The most objects that a pickle may number; the number decides how much memory Python's reader takes."""
MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")  # before and since numpy 2


def unpickle(content: bytes, where: str) -> Any:
    """Return the content of a pickle, with Python 2's strings as bytes.

    where: the name of the file, for messages. Raises FastcifarError for a pickle that is damaged or not a CIFAR batch.
    """
    try:
        _check_program(content)
        return _revealed(_Reader(io.BytesIO(content)).load())
    except FastcifarError as error:
        raise FastcifarError(f"{where}: {error}") from error
    except Exception as error:  # damaged or malicious bytes can raise anything
        reason = str(error).partition(";")[0] or type(error).__name__
        raise FastcifarError(f"{where} is not a readable pickle ({reason}); it is damaged: fetch it again") from error


def _check_program(content: bytes) -> None:
    """Read the instructions of a pickle without carrying them out. Raises FastcifarError for what no CIFAR batch does.

    Each object on the stack is replaced by the depth of the tuples in it. Lists and dictionaries count as 0, since they
    cannot be hashed.
    """
    stack: list[int] = []
    marks: list[int] = []
    memo: dict[int, int] = {}
    for code, argument, _ in pickletools.genops(content):
        name, number = code.name, argument if isinstance(argument, int) else len(memo)
        if name == "MARK":
            marks.append(len(stack))
        elif name == "POP" and marks and marks[-1] == len(stack):
            marks.pop()
        elif name == "DUP":
            stack.append(stack[-1])
        elif "GET" in name:
            stack.append(memo[number])
        elif "PUT" in name or name == "MEMOIZE":
            if number >= MEMO:
                raise FastcifarError(f"it numbers an object {number:,}; a CIFAR batch has fewer than {MEMO:,} objects")
            memo[number] = stack[-1]
        else:
            has_mark = pickletools.markobject in code.stack_before
            start = marks.pop() if has_mark else max(0, len(stack) - len(code.stack_before))
            inside = max(stack[start:], default=0)
            depth = inside + 1 if "TUPLE" in name or name == "FROZENSET" else inside if name == "BUILD" else 0
            if depth > DEEPEST:
                raise FastcifarError(f"it holds more than {DEEPEST} tuples within one another, as no CIFAR batch does")
            stack[start:] = [depth] * len(code.stack_after)


class _Reader(pickle.Unpickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="bytes")

        # These are local, so that a pickle that changes a stand-in affects only its own file.
        class Type(_Type):
            pass

        class Array(_Array):
            pass

        def encode(text: str, encoding: str) -> bytes:  # how Python 3 writes bytes in protocols 0 to 2
            if encoding != "latin1":
                raise FastcifarError(f"it encodes text as {encoding!r}, which no CIFAR batch does")
            return text.encode("latin1")

        self._allowed = {("numpy", "dtype"): Type, ("numpy", "ndarray"): Array, ("_codecs", "encode"): encode}
        self._allowed |= {(module, "_reconstruct"): lambda kind, shape, code: Array() for module in MULTIARRAY}

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._allowed[module, name]
        except KeyError:
            raise FastcifarError(
                f"it calls for {module}.{name}, which no CIFAR batch does; do not trust this file"
            ) from None


class _Type:
    """A stand-in for a numpy dtype."""

    def __init__(self, code: Any, align: Any = False, copy: Any = False) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        pass  # byte order and the like, which a uint8 does not have


class _Array:
    """A stand-in for a numpy array, until its state is checked to be that of a uint8 array."""

    value: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, content = state
        code = kind.code if isinstance(kind, _Type) else kind
        if code not in ("u1", b"u1", "|u1", b"|u1") or fortran or not isinstance(content, bytes):
            raise FastcifarError(f"it holds an array of {quoted(code)}; plain uint8 (u1) is needed")
        if not all(type(size) is int and size >= 0 for size in shape) or prod(shape) != len(content):
            raise FastcifarError(f"it holds an array of shape {quoted(shape)} with {len(content):,} bytes")
        self.value = np.frombuffer(content, np.uint8).reshape(shape)


def _revealed(batch: Any) -> Any:
    """Return the batch with its arrays instead of their stand-ins, which are values of the outermost dictionary."""
    if not isinstance(batch, dict):
        return batch
    return {key: value.value if isinstance(value, _Array) else value for key, value in batch.items()}
