"""TFRecord files of tf.train.Example messages, written without TensorFlow.

A record consists of the length of the message (uint64), a masked CRC-32C of the length (uint32), the message, and a
masked CRC-32C of the message (uint32), all little-endian (https://www.tensorflow.org/tutorials/load_data/tfrecord). The
message is Example { Features features = 1 }, Features { map<string, Feature> feature = 1 }, and Feature is one of
BytesList = 1 and Int64List = 3, each { repeated value = 1 }, in Protocol Buffers' encoding
(https://protobuf.dev/programming-guides/encoding).
"""

import struct
from collections.abc import Mapping

import numba
import numpy as np
from numpy.typing import NDArray

POLYNOMIAL = 0x82F63B78  # Castagnoli's polynomial with its bits reversed, for the CRC-32C of RFC 3720
MASK = 0xA282EAD8  # TFRecord's constant: a plain CRC of data that contains its own CRC is degenerate
LENGTH_DELIMITED = 2  # Protocol Buffers' wire type of bytes, strings and messages
OVERHEAD = 16  # bytes of a record besides its message


def _crc_table() -> NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


TABLE = _crc_table()


@numba.njit(nogil=True)
def _crc32c(data: NDArray[np.uint8], table: NDArray[np.uint32]) -> np.uint32:
    crc = np.uint32(0xFFFFFFFF)
    for byte in data:
        crc = table[(crc ^ byte) & np.uint32(0xFF)] ^ (crc >> np.uint32(8))
    return crc ^ np.uint32(0xFFFFFFFF)


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of ``data``."""
    return int(_crc32c(np.frombuffer(data, np.uint8), TABLE))


def masked_crc32c(data: bytes) -> int:
    """Return the CRC-32C, rotated right by 15 bits, plus MASK, modulo 2**32."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + MASK) & 0xFFFFFFFF


def framed(message: bytes) -> bytes:
    """Return the TFRecord of a message; it is OVERHEAD bytes longer than the message."""
    length = struct.pack("<Q", len(message))
    sums = struct.pack("<I", masked_crc32c(length)), struct.pack("<I", masked_crc32c(message))
    return length + sums[0] + message + sums[1]


def example(features: Mapping[str, bytes | int]) -> bytes:
    """Return an encoded tf.train.Example with one bytes or int64 value for each name."""
    entries = (_field(1, _field(1, name.encode()) + _field(2, _feature(value))) for name, value in features.items())
    return _field(1, b"".join(entries))


def _feature(value: bytes | int) -> bytes:
    if isinstance(value, bytes):
        return _field(1, _field(1, value))
    return _field(3, _field(1, _varint(value & 0xFFFFFFFFFFFFFFFF)))  # a negative int64 as its two's complement


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | LENGTH_DELIMITED) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Encode a value with seven bits per byte, lowest first; the eighth bit marks that more bytes follow."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
