"""The decoder of PNG and JPEG files. It refuses all but complete 32×32 8-bit RGB images, unless it may change them."""

import io
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, ImageOps

from fastcifar.data.sources.source import I64, IMAGE_SHAPE, U8
from fastcifar.errors import FastcifarError

IMAGE_LIMIT = 1 << 20  # bytes; a 32×32 image has a few thousand, and metadata may need more
PIXEL_LIMIT = 1 << 26  # pixels of an image that is resized
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


@dataclass
class Fit:
    """What may be changed to make a 32×32 RGB image of any image, and how many images were changed."""

    resize: bool = False
    """Scale the central square of an image to 32×32, with Pillow's bicubic filter."""
    rgb: bool = False
    """Convert grey, palette and CMYK images to RGB, as Pillow does, and drop transparency."""
    resized: int = 0
    converted: int = 0
    turned: int = 0
    """The images that were turned or mirrored as their EXIF orientation says."""

    def cure(self, size: bool, mode: bool) -> str:
        """Return which options are missing for an image with another size or another mode."""
        cures = ["--resize, which changes its pixels"] * (size and not self.resize)
        return " and ".join(cures + ["--mode rgb"] * (mode and not self.rgb))

    def apply(self, image: Image.Image, size: bool, mode: bool) -> Image.Image:
        """Return the image with 32×32 pixels, if ``size``, and in RGB, if ``mode``; count the changes."""
        if mode:
            self.converted += 1
            # Pillow warns where a palette with transparency is not made RGBA first.
            image = (image.convert("RGBA") if "transparency" in image.info else image).convert("RGB")
        if size:
            self.resized += 1
            image = ImageOps.fit(image, IMAGE_SHAPE[:2], Image.Resampling.BICUBIC)
        return image


def decode(content: bytes, name: str, fit: Fit | None = None) -> U8:
    """Return the pixels of a PNG or JPEG file as viewers show them, (32, 32, 3) uint8.

    An image with an EXIF orientation is turned or mirrored, and counted in ``fit``.

    fit: what may be changed in an image of another size or mode; None: nothing, and no option would allow it. Raises
    FastcifarError for an image that does not fit, with its name, its format and the needed format.
    """
    if not content.startswith((PNG_START, JPEG_START)):
        raise FastcifarError(
            f"{name} is neither a PNG nor a JPEG image; convert it to 32×32 8-bit RGB PNG, or move it to another place"
        )
    png = content.startswith(PNG_START)
    # Pillow accepts a file that ends early if it has the pixels, does not check a PNG's checksums of the pixels, and
    # silently reduces 16-bit samples.
    if not (_is_whole_png(content) if png else JPEG_END in content):
        raise FastcifarError(f"{name}, of {len(content):,} bytes, is damaged or truncated; fetch it again")
    try:
        with (
            _silent(),
            Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image,
        ):
            depth = content[PNG_DEPTH] if png else 8
            height, width = IMAGE_SHAPE[:2]
            transparent = "transparency" in image.info
            size, mode = image.size != (width, height), image.mode != "RGB" or transparent
            cure = fit.cure(size, mode) if fit else "convert it, for example with Pillow's convert and resize"
            if depth > 8:
                cure = "convert it to 8 bits, for example with Pillow"
            if (size or mode or depth > 8) and cure:
                shown = "RGBA" if transparent and image.mode == "RGB" else image.mode
                raise FastcifarError(
                    f"{name} is {image.width}×{image.height}, {depth}-bit {MODES.get(shown, shown)}; "
                    f"{width}×{height} 8-bit RGB is needed: {f'allow {cure}' if fit and depth <= 8 else cure}"
                )
            if image.width * image.height > PIXEL_LIMIT:
                raise FastcifarError(
                    f"{name} is {image.width}×{image.height}; "
                    f"images of at most {PIXEL_LIMIT:,} pixels are resized: make it smaller"
                )
            image.load()
            upright = _upright(image)
            if fit and upright is not image:
                fit.turned += 1
            return np.asarray(fit.apply(upright, size, mode) if fit else upright)
    except FastcifarError:
        raise
    except Exception as error:  # damaged bytes can raise anything in a decoder
        raise FastcifarError(
            f"{name} cannot be decoded ({error}); it is damaged or truncated: fetch it again"
        ) from error


@contextmanager
def _silent() -> Iterator[None]:
    """Hide Pillow's warnings: about damaged EXIF data, which are ignored, and many pixels, which are refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _upright(image: Image.Image) -> Image.Image:
    """Return an image turned or mirrored as its EXIF orientation says (EXIF 2.32, tag 0x0112), or the same object."""
    with suppress(Exception):  # damaged EXIF data, which viewers ignore
        if image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9):
            return ImageOps.exif_transpose(image)
    return image


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


def decode_chunks(files: Iterable[tuple[int, str, bytes]], fit: Fit | None = None) -> Iterator[tuple[I64, U8]]:
    """Decode files, and yield (rows, images) of up to CHUNK files: (n,) int64 and (n, 32, 32, 3) uint8.

    files: (row, name for messages, content) of each file. fit: as for `decode`.
    """
    rows, images = np.empty(CHUNK, np.int64), np.empty((CHUNK, *IMAGE_SHAPE), np.uint8)
    count = 0
    for row, name, content in files:
        rows[count], images[count] = row, decode(content, name, fit)
        count += 1
        if count == CHUNK:
            yield rows.copy(), images.copy()
            count = 0
    if count:
        yield rows[:count], images[:count]
