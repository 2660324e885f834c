"""Hostile and odd sources: archives that lead outside, pickles that call, numbers too large, images that lie."""

import io
import pickle
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tools.attacks.damage import flipped, here
from tools.attacks.outcome import Outcome, judged

CLASSES = ("cat", "dog")


def picture(seed: int, size: tuple[int, int] = (32, 32), form: str = "PNG") -> bytes:
    """Return the file of a random image."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def folders(count: int = 6) -> dict[str, bytes]:
    """Return the files of class folders."""
    return {f"{name}/{n}.png": picture(n) for name in CLASSES for n in range(count)}


def zipped(files: dict[str, bytes]) -> bytes:
    """Return a zip archive of files by name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files: dict[str, bytes], *members: tarfile.TarInfo) -> bytes:
    """Return a tar.gz archive of files by name, and of members without content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in members:
            archive.addfile(member)
    return buffer.getvalue()


class Call:
    """A pickle that calls a function when it is read."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Path]]:
        return Path.touch, (self._marker,)


def batches(one: bytes) -> bytes:
    """Return the python version of CIFAR-10 with one content for every batch."""
    names = ["batches.meta", "test_batch", *(f"data_batch_{n}" for n in range(1, 6))]
    return tarred({f"cifar-10-batches-py/{name}": one for name in names})


def _bomb(width: int) -> bytes:
    """Return a PNG that says it has ``width`` by ``width`` pixels, of zeros, in a few bytes a row."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, width, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def _member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def _kaggle(labels: str) -> dict[str, bytes]:
    return {"trainLabels.csv": labels.encode()} | {f"train/{n}.png": picture(n) for n in range(1, 11)}


def sources(marker: Path) -> dict[str, tuple[str, bytes]]:
    """Return hostile sources by what is wrong with them: a file name and a content. marker: no source may make it."""
    whole = folders()
    deep = b"\x80\x04" + b"]" * 50_000 + b"a" * 49_999 + b"."
    rows = "\n".join(f"{n},cat" for n in range(1, 11))
    return {
        "a zip that leads outside": ("a.zip", zipped(whole | {"../../cat/x.png": picture(9)})),
        "a zip with an absolute name": ("b.zip", zipped(whole | {str(marker): picture(9)})),
        "a tar with a link outside": ("c.tar.gz", tarred(whole, _member("cat/l.png", tarfile.SYMTYPE, "/etc/passwd"))),
        "a tar with a device": ("d.tar.gz", tarred(whole, _member("cat/d.png", tarfile.CHRTYPE))),
        "a tar with a hard link": ("e.tar.gz", tarred(whole, _member("cat/h.png", tarfile.LNKTYPE, "/etc/shadow"))),
        "an image of 10^10 pixels": ("f.zip", zipped(whole | {"cat/bomb.png": _bomb(100_000)})),
        "an image of 10^7 bytes for a row": ("g.zip", zipped(whole | {"cat/bomb.png": _bomb(12_000)})),
        "an empty image": ("h.zip", zipped(whole | {"cat/empty.png": b""})),
        "a text called PNG": ("i.zip", zipped(whole | {"cat/text.png": b"no image"})),
        "a class of an odd name": ("j.zip", zipped(whole | {"[red]<b>$x$/1.png": picture(1)})),
        "a pickle that calls": ("cifar-10-python.tar.gz", batches(pickle.dumps({"data": Call(marker)}))),
        "a deep pickle": ("cifar-10-python.tar.gz", batches(deep)),
        "a pickle of a large number": ("cifar-10-python.tar.gz", batches(pickle.dumps({"labels": [10**5000]}))),
        "a pickle of another thing": ("cifar-10-python.tar.gz", batches(pickle.dumps([1, 2, 3]))),
        "labels with a huge id": ("k.zip", zipped(_kaggle(f"id,label\n{rows}\n{10**18},cat\n"))),
        "labels with an id of 5,000 digits": ("l.zip", zipped(_kaggle(f"id,label\n{rows}\n{'1' * 5000},cat\n"))),
        "labels with a field of 200,000 characters": (
            "m.zip",
            zipped(_kaggle(f"id,label\n{rows}\n1,{'c' * 200_000}\n")),
        ),
        "labels with a NUL": ("n.zip", zipped(_kaggle(f"id,label\n{rows}\n1,\0\n"))),
        "nothing is wrong": ("whole.zip", zipped(whole)),
        "nothing": ("o.zip", zipped({})),
        "a file of no bytes": ("p.zip", b""),
    }


def attack(folder: Path, tries: int, seed: str) -> Iterator[Outcome]:
    """Yield the outcomes of converting hostile sources, and archives with a flipped bit or a part cut off."""
    marker = folder / "called"
    for number, (what, (name, content)) in enumerate(sources(marker).items()):
        place = folder / str(number)
        place.mkdir()
        (place / name).write_bytes(content)
        yield _converted("hostile source", what, place / name, marker)
    rng = random.Random(f"{seed} archives")
    wholes = {"whole.zip": zipped(folders()), "whole.tar.gz": tarred(folders())}
    for number in range(tries):
        name, content = rng.choice(list(wholes.items()))
        damaged = flipped(content, rng) if number % 2 else content[: rng.randrange(len(content))]
        place = folder / f"damaged{number}"
        place.mkdir()
        (place / name).write_bytes(damaged)
        yield _converted("damaged archive", f"{name}, {'bit flipped' if number % 2 else 'cut'}", place / name, marker)


def _converted(kind: str, what: str, source: Path, marker: Path) -> Outcome:
    """Convert a source. A conversion that succeeds must give a dataset that is whole."""
    dest = source.parent / "dataset"
    answer = here("convert", source, dest)
    whole = answer.code != 0 or here("verify", dest).code == 0
    if marker.exists():
        return Outcome(kind, "lost", f"{what}: the source's code was run")
    left = [path.name for path in source.parent.iterdir() if path not in (source, dest)]
    if left or (answer.code and dest.exists()):
        return Outcome(kind, "left", f"{what}: {left or 'a dataset, although the conversion failed'}")
    return judged(kind, what, answer, whole, [source.name, source.stem.split(".")[0]])
