"""Marks for tests of optional dataset formats, and a parser of TFRecords."""

import importlib
import importlib.util
import struct

import pytest

from fastcifar.data.formats.tfrecord import masked_crc32c

needs_ffcv = pytest.mark.skipif(not importlib.util.find_spec("ffcv"), reason="FFCV is not installed")


needs_dali = pytest.mark.skipif(
    not (importlib.util.find_spec("nvidia") and importlib.util.find_spec("nvidia.dali")), reason="DALI is not installed"
)


def parsed(message: bytes) -> list[tuple[int, bytes | int]]:
    """Return the (field number, content) pairs of a Protocol Buffers message."""

    def varint(position: int) -> tuple[int, int]:
        value, shift = 0, 0
        while True:
            value |= (message[position] & 0x7F) << shift
            position, shift = position + 1, shift + 7
            if message[position - 1] < 0x80:
                return value, position

    fields, position = [], 0
    while position < len(message):
        key, position = varint(position)
        value, position = varint(position)
        if key & 7 == 2:
            value, position = message[position : position + value], position + value
        fields.append((key >> 3, value))
    assert position == len(message)
    return fields


def unpacked(content: bytes) -> dict[str, bytes | int]:
    """Return the features of a TFRecord, and check its checksums."""
    (length,) = struct.unpack_from("<Q", content)
    assert struct.unpack_from("<I", content, 8) == (masked_crc32c(content[:8]),)
    assert struct.unpack_from("<I", content, 12 + length) == (masked_crc32c(content[12 : 12 + length]),)
    assert len(content) == length + 16
    ((_, features),) = parsed(content[12 : 12 + length])
    values = {}
    for number, entry in parsed(features):
        (one, name), (two, feature) = parsed(entry)
        ((kind, items),) = parsed(feature)
        assert (number, one, two) == (1, 1, 2)
        if kind == 1:
            ((_, values[name.decode()]),) = parsed(items)
        else:
            ((one, packed_value),) = parsed(items)
            assert (kind, one) == (3, 1)
            ((_, value),) = parsed(b"\x08" + packed_value)
            values[name.decode()] = value - 2**64 if value >= 2**63 else value
    return values
