"""The sources of images: ``open_source`` recognises the kind of a source and returns a Source."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastcifar.data.sources.archives import open_files
from fastcifar.data.sources.cifar100 import Cifar100, looks_cifar100
from fastcifar.data.sources.embedded import DOWNLOADS, Digits, Synthetic, download
from fastcifar.data.sources.folders import ClassFolders
from fastcifar.data.sources.kaggle import Kaggle, looks_like_kaggle
from fastcifar.data.sources.original import Original, looks_original
from fastcifar.data.sources.shifted import Cifar10_1, Corrupted, looks_corrupted, looks_like_cifar10_1
from fastcifar.data.sources.source import CIFAR10, IMAGE_SHAPE, Chunk, Source
from fastcifar.data.sources.svhn import Svhn, looks_like_svhn
from fastcifar.errors import UsageError
from fastcifar.system.paths import path_of
from fastcifar.system.scratch import Scratch

__all__ = ["CIFAR10", "IMAGE_SHAPE", "Chunk", "Source", "open_source"]

SOURCES = """Kaggle's cifar-10.zip or its folder, an original archive or folder of CIFAR-10 or CIFAR-100, a folder or \
archive of class folders of images, the folder of SVHN, CIFAR-10.1 or CIFAR-10-C, a dataset directory, or one of \
cifar10 and cifar100 (downloaded), digits, synthetic:N"""

KINDS: tuple[tuple[Callable[[Sequence[str]], bool], type[Source]], ...] = (
    (looks_like_kaggle, Kaggle),
    (looks_original, Original),
    (looks_cifar100, Cifar100),
    (looks_like_cifar10_1, Cifar10_1),
    (looks_corrupted, Corrupted),
    (looks_like_svhn, Svhn),
)
"""How file names are recognised, with the kind of source that they belong to. Other files are class folders."""


def open_source(
    spec: str, *, labels: str | None = None, part: str | None = None, resize: bool = False, mode: str | None = None
) -> Source:
    """Open the source that ``spec`` names: ``digits``, ``synthetic:N``, ``cifar10`` or ``cifar100``, or a path.

    A path leads to a folder or an archive. The path of a folder called ``digits`` is ``./digits``. labels: "fine" or
    "coarse", for CIFAR-100. part: the corruption or the version, for CIFAR-10-C and CIFAR-10.1. resize, mode: for class
    folders, see `images.Fit`.

    Raises UsageError for any other text and for an option that the source does not take, FastcifarError for a source
    that is incomplete or damaged.
    """
    given = {"labels": labels, "part": part, "resize": resize, "mode": mode}
    options = {name: value for name, value in given.items() if value not in (None, False)}
    path = path_of(spec)
    if spec in DOWNLOADS:
        return downloaded(spec, options)
    if spec != "digits" and not spec.startswith("synthetic:"):
        if not path.exists():
            raise UsageError(f"there is no {spec!r}; give {SOURCES}")
        return open_path(path, options)
    if options:
        raise UsageError(f"{spec} takes no --{next(iter(options))}; leave it out")
    if spec == "digits":
        return Digits()
    if not re.fullmatch(r"synthetic:[0-9]{1,18}", spec):
        raise UsageError(f"{spec!r} is not synthetic:N with a number of images, such as synthetic:50000")
    return Synthetic(int(spec.partition(":")[2]))


def open_path(path: Path, options: dict[str, Any]) -> Source:
    """Open the source in a folder or archive; its file names decide the kind. options: those that were given."""
    if path.suffix in (".npy", ".mat", ".bin") and path.is_file():
        raise UsageError(f"{path} is one file of a dataset; give the folder with all of its files: {path.parent}")
    files = open_files(path)
    try:
        kind = next((kind for looks, kind in KINDS if looks(files.names)), ClassFolders)
        if other := sorted(options.keys() - kind.options):
            raise UsageError(f"{files.title} is {kind.kind}, which takes no --{other[0]}; leave it out")
        return kind(files, **options)  # type: ignore[call-arg]  # every kind takes files and its own options
    except BaseException:
        files.close()
        raise


def downloaded(name: str, options: dict[str, Any]) -> Source:
    """Download the original archive ``name`` of DOWNLOADS into a temporary folder, and open it.

    Leaving the source as a context manager removes the folder. options: those that were given.
    """
    folder = Scratch()
    try:
        source = open_path(download(Path(folder.name), name), options)
    except BaseException:
        folder.cleanup()
        raise
    source.temporary = folder
    return source
