"""The decoder of PNG and JPEG files; it refuses any file but a complete 32×32 8-bit RGB image."""

import io
import struct
import zlib
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image

from fastcifar.data.sources.source import I64, IMAGE_SHAPE, U8
from fastcifar.errors import FastcifarError

IMAGE_LIMIT = 1 << 20  # bytes; a 32×32 image has a few thousand, and metadata may need more
CHUNK = 1024  # images in a chunk
PNG_START = b"\x89PNG\r\n\x1a\n"
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
PNG_DEPTH = 24  # offset of the bits per sample in a PNG file: signature 8, length 4, "IHDR" 4, width 4, height 4
MODES = {
    "L": "grey",
    "LA": "grey with transparency",
    "RGBA": "RGB with transparency",
    "P": "palette",
    "1": "black and white",
}


def decode(content: bytes, name: str) -> U8:
    """Return the pixels of a PNG or JPEG file, (32, 32, 3) uint8.

    Raises FastcifarError for any other image, with its name, its format and the needed format.
    """
    if not content.startswith((PNG_START, JPEG_START)):
        raise FastcifarError(
            f"{name} is neither a PNG nor a JPEG image; remove it, or convert it to 32×32 8-bit RGB PNG"
        )
    png = content.startswith(PNG_START)
    # Pillow accepts a file that ends early if it has the pixels, does not check a PNG's checksums of the pixels, and
    # silently reduces 16-bit samples.
    if not (_is_whole_png(content) if png else JPEG_END in content):
        raise FastcifarError(f"{name}, of {len(content):,} bytes, is damaged or truncated; fetch it again")
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
            depth = content[PNG_DEPTH] if png else 8
            height, width = IMAGE_SHAPE[:2]
            transparent = "transparency" in image.info
            if image.size != (width, height) or image.mode != "RGB" or depth > 8 or transparent:
                mode = "RGBA" if transparent and image.mode == "RGB" else image.mode
                raise FastcifarError(
                    f"{name} is {image.width}×{image.height}, {depth}-bit {MODES.get(mode, mode)}; "
                    f"{width}×{height} 8-bit RGB is needed: convert it, for example with Pillow's convert and resize"
                )
            image.load()
            return np.asarray(image)
    except FastcifarError:
        raise
    except Exception as error:  # damaged bytes can raise anything in a decoder
        raise FastcifarError(
            f"{name} cannot be decoded ({error}); it is damaged or truncated: fetch it again"
        ) from error


def _is_whole_png(content: bytes) -> bool:
    """Return whether a PNG has all chunks up to IEND, with correct CRC-32s (PNG specification, section 5)."""
    position = len(PNG_START)
    while position + 12 <= len(content):  # a chunk has a length, a kind, data and a CRC-32
        (length,) = struct.unpack_from(">I", content, position)
        kind_and_data = content[position + 4 : position + 8 + length]
        position += 12 + length
        if content[position - 4 : position] != struct.pack(">I", zlib.crc32(kind_and_data)):
            return False
        if kind_and_data.startswith(b"IEND"):
            return True
    return False


def decode_chunks(files: Iterable[tuple[int, str, bytes]]) -> Iterator[tuple[I64, U8]]:
    """Decode files, and yield (rows, images) of up to CHUNK files: (n,) int64 and (n, 32, 32, 3) uint8.

    files: (row, name for messages, content) of each file.
    """
    rows, images = np.empty(CHUNK, np.int64), np.empty((CHUNK, *IMAGE_SHAPE), np.uint8)
    count = 0
    for row, name, content in files:
        rows[count], images[count] = row, decode(content, name)
        count += 1
        if count == CHUNK:
            yield rows.copy(), images.copy()
            count = 0
    if count:
        yield rows[:count], images[:count]
