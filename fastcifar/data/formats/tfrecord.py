"""TFRecord files of tf.train.Example messages, written without TensorFlow.

A record is its length (uint64), a masked CRC-32C of that (uint32), the message, and a masked CRC-32C of the message,
little-endian: https://www.tensorflow.org/tutorials/load_data/tfrecord. The message is
Example { Features features = 1 }, Features { map<string, Feature> feature = 1 }, and Feature is one of
BytesList = 1 and Int64List = 3, each { repeated value = 1 }, in Protocol Buffers' encoding
(https://protobuf.dev/programming-guides/encoding).
"""

import struct
from collections.abc import Mapping

import numba
import numpy as np
from numpy.typing import NDArray

POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed: CRC-32C of RFC 3720
MASK = 0xA282EAD8  # TFRecord's, so that the sum of data that holds its own sum is not special
LENGTH_DELIMITED = 2  # Protocol Buffers' wire type of bytes, strings and messages
OVERHEAD = 16  # bytes a record has besides its message


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
    """The CRC-32C (Castagnoli) of ``data``."""
    return int(_crc32c(np.frombuffer(data, np.uint8), TABLE))


def masked_crc32c(data: bytes) -> int:
    """CRC-32C rotated right by 15 bits, plus a constant, modulo 2**32."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + MASK) & 0xFFFFFFFF


def record(message: bytes) -> bytes:
    """The TFRecord of a message: OVERHEAD bytes longer."""
    length = struct.pack("<Q", len(message))
    sums = struct.pack("<I", masked_crc32c(length)), struct.pack("<I", masked_crc32c(message))
    return length + sums[0] + message + sums[1]


def example(features: Mapping[str, bytes | int]) -> bytes:
    """A tf.train.Example of one bytes or int64 value for each name."""
    entries = (_field(1, _field(1, name.encode()) + _field(2, _feature(value))) for name, value in features.items())
    return _field(1, b"".join(entries))


def _feature(value: bytes | int) -> bytes:
    if isinstance(value, bytes):
        return _field(1, _field(1, value))
    return _field(3, _field(1, _varint(value & 0xFFFFFFFFFFFFFFFF)))  # a negative int64 as its two's complement


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | LENGTH_DELIMITED) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Seven bits a byte, lowest first; the eighth says that more follow."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
