"""The sources of CIFAR images: ``open_source`` recognises the kind of a source and returns a Source."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

from fastcifar.data.sources.archives import open_files
from fastcifar.data.sources.embedded import Digits, Synthetic, download
from fastcifar.data.sources.folders import ClassFolders
from fastcifar.data.sources.kaggle import Kaggle, looks_like_kaggle
from fastcifar.data.sources.original import Original, looks_original
from fastcifar.data.sources.source import CIFAR10, IMAGE_SHAPE, Chunk, Source
from fastcifar.errors import UsageError

__all__ = ["CIFAR10", "IMAGE_SHAPE", "Chunk", "Source", "open_source"]

SOURCES = """Kaggle's cifar-10.zip or its folder, the original python or binary archive or its folder, \
a folder or archive of class folders of images, or one of cifar10 (downloaded), digits, synthetic:N"""


def open_source(spec: str) -> Source:
    """Open the source that ``spec`` names: ``digits``, ``synthetic:N``, ``cifar10``, or a path to a folder or archive.

    The path of a folder called ``digits`` is ``./digits``. Raises UsageError for any other text, FastcifarError for a
    source that is incomplete or damaged.
    """
    if spec == "digits":
        return Digits()
    if spec == "cifar10":
        return Downloaded()
    if spec.startswith("synthetic:"):
        if not re.fullmatch(r"synthetic:[0-9]{1,18}", spec):
            raise UsageError(f"{spec!r} is not synthetic:N with a number of images, such as synthetic:50000")
        return Synthetic(int(spec.partition(":")[2]))
    path = Path(spec)
    if not path.exists():
        raise UsageError(f"there is no {spec!r}; give {SOURCES}")
    return open_path(path)


def open_path(path: Path) -> Source:
    """Open the source in a folder or archive; its file names decide the kind."""
    files = open_files(path)
    try:
        if looks_like_kaggle(files.names):
            return Kaggle(files)
        if looks_original(files.names):
            return Original(files)
        return ClassFolders(files)
    except BaseException:
        files.close()
        raise


class Downloaded(Original):
    """The original python archive, downloaded into a temporary folder; ``close`` removes the folder."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="fastcifar-")
        try:
            super().__init__(open_files(download(Path(self._folder.name))))
        except BaseException:
            self._folder.cleanup()
            raise

    def close(self) -> None:
        super().close()
        self._folder.cleanup()
