"""Image files: exact pixels of what is right, and a refusal that names the file and the fault of all else."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from support.builders import encoded, pixels, png

from fastcifar.data.sources.images import CHUNK, Fit, decode, decode_chunks
from fastcifar.errors import FastcifarError


def test_png_pixels_are_exact_and_jpeg_is_pillows():
    np.testing.assert_array_equal(decode(png(1), "it"), pixels(1))
    jpeg = encoded(pixels(1), "jpeg")
    assert np.abs(decode(jpeg, "it").astype(int) - pixels(1)).mean() < 60  # noise compresses badly, but it is the image
    np.testing.assert_array_equal(decode(encoded(np.full((32, 32, 3), 77, np.uint8), "jpeg"), "it"), 77)


def test_chunks_hold_every_image_once():
    count = CHUNK + 3
    files = [png(number) for number in range(4)]
    chunks = list(decode_chunks((row, "it", files[row % 4]) for row in range(count)))
    assert [len(rows) for rows, _ in chunks] == [CHUNK, 3]
    np.testing.assert_array_equal(np.concatenate([rows for rows, _ in chunks]), np.arange(count))
    images = np.concatenate([images for _, images in chunks])
    np.testing.assert_array_equal(images, np.stack([pixels(row % 4) for row in range(count)]))


def rgb16() -> bytes:
    """A PNG of 16-bit RGB, which Pillow can read but not write: the 8-bit file's header and pixels are changed."""

    def block(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 32, 32, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + bytes(32 * 6) for _ in range(32))
    return b"\x89PNG\r\n\x1a\n" + block(b"IHDR", header) + block(b"IDAT", zlib.compress(rows)) + block(b"IEND", b"")


def transparent_rgb() -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels(0)).save(file, "png", transparency=(1, 2, 3))
    return file.getvalue()


image = Image.fromarray(pixels(0))
WRONG = {
    "grey": (encoded(image.convert("L")), "32×32, 8-bit grey"),
    "grey jpeg": (encoded(image.convert("L"), "jpeg"), "32×32, 8-bit grey"),
    "rgba": (encoded(image.convert("RGBA")), "32×32, 8-bit RGB with transparency"),
    "transparent": (transparent_rgb(), "32×32, 8-bit RGB with transparency"),
    "palette": (encoded(image.convert("P")), "32×32, 8-bit palette"),
    "bilevel": (encoded(image.convert("1")), "32×32, 1-bit black and white"),
    "cmyk": (encoded(image.convert("CMYK"), "jpeg"), "32×32, 8-bit CMYK"),
    "grey 16": (encoded(Image.fromarray(np.zeros((32, 32), np.uint16))), "32×32, 16-bit I;16"),
    "rgb 16": (rgb16(), "32×32, 16-bit RGB"),
    "small": (encoded(image.resize((31, 32))), "31×32, 8-bit RGB"),
    "large": (encoded(image.resize((32, 33)), "jpeg"), "32×33, 8-bit RGB"),
    "bomb": (encoded(Image.new("1", (10_000, 9_000))), "10000×9000, 1-bit black and white"),
    "gif": (encoded(image.convert("P"), "gif"), "neither a PNG nor a JPEG"),
    "text": (b"hello", "neither a PNG nor a JPEG"),
    "empty": (b"", "neither a PNG nor a JPEG"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_32_by_32_8_bit_rgb_is_refused(name):
    content, fault = WRONG[name]
    with pytest.raises(FastcifarError) as error:
        decode(content, f"{name} in archive")
    assert f"{name} in archive is {fault}" in str(error.value)
    assert any(
        cure in str(error.value)
        for cure in ("32×32 8-bit RGB is needed: convert it", "convert it to 32×32 8-bit RGB PNG, or move it")
    )


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_file_cut_short_anywhere_is_refused(kind):
    content = encoded(pixels(0), kind)
    for cut in range(2, len(content)):
        with pytest.raises(FastcifarError, match="it "):
            decode(content[:cut], "it")


def test_a_damaged_png_is_refused():
    content = png(0)
    for place in range(8, len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0x55
        with pytest.raises(FastcifarError, match="it "):
            decode(bytes(damaged), "it")


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_only_small_8_bit_images_are_made_to_fit(name):
    content, _ = WRONG[name]
    fit = Fit(resize=True, rgb=True)
    if name in ("rgb 16", "grey 16", "bomb", "gif", "text", "empty"):
        fault = {"bomb": "is 10000×9000; images of at most 67,108,864 pixels are resized"}.get(
            name, "8 bits|neither a PNG"
        )
        with pytest.raises(FastcifarError, match=fault):
            decode(content, "it", fit)
        return
    made = decode(content, "it", fit)
    assert (made.shape, made.dtype) == ((32, 32, 3), np.uint8)
    small = name in ("small", "large")
    assert (fit.resized, fit.converted) == (int(small), int(not small))
    with pytest.raises(FastcifarError, match="allow --resize, which changes" if small else "allow --mode rgb$"):
        decode(content, "it", Fit(rgb=True) if small else Fit(resize=True))


def test_transparency_is_dropped_and_grey_is_copied():
    np.testing.assert_array_equal(decode(transparent_rgb(), "it", Fit(rgb=True)), pixels(0))
    opaque = Image.fromarray(np.dstack([pixels(1), np.zeros((32, 32), np.uint8)]))
    np.testing.assert_array_equal(decode(encoded(opaque), "it", Fit(rgb=True)), pixels(1))
    both = encoded(Image.fromarray(np.zeros((8, 8), np.uint8)))
    with pytest.raises(FastcifarError, match="allow --resize, which changes its pixels and --mode rgb"):
        decode(both, "it", Fit())
    palette = io.BytesIO()
    image.convert("P").save(palette, "png", transparency=bytes(range(256)))
    assert decode(palette.getvalue(), "it", Fit(rgb=True)).shape == (32, 32, 3)


UPRIGHT = {
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).transpose(1, 0, 2),
    8: np.rot90,
}
"""What the values of EXIF's orientation ask of a viewer (EXIF 2.32, tag 0x0112)."""


def oriented(orientation: int, image: np.ndarray, kind: str = "png") -> bytes:
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(image).save(file, kind, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("orientation", range(10))
def test_an_image_is_turned_as_its_exif_orientation_says(orientation):
    fit = Fit()
    upright = UPRIGHT.get(orientation, np.asarray)
    np.testing.assert_array_equal(decode(oriented(orientation, pixels(1)), "it", fit), upright(pixels(1)))
    np.testing.assert_array_equal(decode(oriented(orientation, pixels(1)), "it"), upright(pixels(1)))
    assert fit.turned == (orientation in UPRIGHT)
    smooth = np.add.outer(np.arange(32), 3 * np.arange(32))[..., None].repeat(3, 2).astype(np.uint8)
    jpeg = decode(oriented(orientation, smooth, "jpeg"), "it").astype(int)
    assert np.abs(jpeg - upright(smooth)).mean() < 3


def test_a_photo_is_turned_before_its_central_square_is_taken():
    photo = np.zeros((32, 64, 3), np.uint8)
    photo[:, 16:48] = pixels(1)
    fit = Fit(resize=True)
    np.testing.assert_array_equal(decode(oriented(6, photo), "it", fit), np.rot90(pixels(1), -1))
    assert (fit.turned, fit.resized) == (1, 1)


def test_damaged_exif_data_are_ignored_as_viewers_do():
    for damage in (b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0", b"Exif\0\0garbage" * 9):
        file = io.BytesIO()
        Image.fromarray(np.full((32, 32, 3), 77, np.uint8)).save(file, "jpeg", exif=damage)
        np.testing.assert_array_equal(decode(file.getvalue(), "it"), 77)
