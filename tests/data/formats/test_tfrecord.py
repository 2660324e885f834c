"""TFRecords: their sums have known answers, and a record holds what was put in."""

import pytest
from support.formats import unpacked

from fastcifar.data.formats.tfrecord import crc32c, example, framed, masked_crc32c


# RFC 3720, B.4; the last is the check value of the catalogue of CRCs.
@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_crc32c_known_answers(data, crc):
    assert crc32c(data) == crc
    assert masked_crc32c(data) == ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32


@pytest.mark.parametrize("number", [0, 127, 128, 299_999, 2**62, -1])
def test_a_record_holds_what_was_put_in(number):
    features = {"image": bytes(range(256)) * 12, "label": 7, "id": number}
    assert unpacked(framed(example(features))) == features
