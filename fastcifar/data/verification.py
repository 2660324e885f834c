"""Verification: whether the files of a dataset directory are as its manifest says. It is done once a process tree."""

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastcifar.data.manifest import CURE, MANIFEST, files_in, histogram_of, mean_std
from fastcifar.data.sources.files import BLOCK
from fastcifar.errors import FastcifarError
from fastcifar.show.progress import track
from fastcifar.system.machine import allowed_cores
from fastcifar.system.seals import SEAL

if TYPE_CHECKING:
    from fastcifar.data.dataset import Dataset

VERIFIED = "FASTCIFAR_VERIFIED"
"""The environment variable with the states of the datasets that this process, or one that started it, has verified."""
MOST = 64  # states that the variable holds; of more, the oldest are forgotten


def verify_files(path: Path, manifest: Mapping[str, Any], extra: bool) -> None:
    """Hash every file of a dataset directory again.

    extra: whether a file that the manifest does not have is a fault. Raises FastcifarError with the name of each file
    that is missing, additional or different.
    """
    files = manifest["files"]
    added = sorted(files_in(path) - files.keys()) if extra else []
    faults = [f"{name} is not in the manifest" for name in added]
    faults += [f"{name} is missing" for name in files if not (path / name).is_file()]
    there = [name for name in files if (path / name).is_file()]
    sizes = [files[name]["bytes"] for name in there]
    with ThreadPoolExecutor(len(allowed_cores())) as pool:
        checked = zip(pool.map(lambda name: _fault(path, name, files[name]), there), sizes, strict=True)
        shown = track(checked, f"verifying {path.name}", sum(sizes), lambda pair: pair[1])
        faults += [fault for fault, _ in shown if fault]
    if faults:
        cure = CURE if len(faults) > len(added) else "move what does not belong to the dataset away"
        raise FastcifarError(f"{path} is not as it was written: {'; '.join(faults)}; {cure}")


def verify_once(dataset: "Dataset") -> None:
    """Verify a dataset directory, unless this process or one that started it has done so, and no file has changed.

    Raises FastcifarError as `verify_files` does, and for a manifest that contradicts the arrays.
    """
    known, state = os.environ.get(VERIFIED, "").split(), _state(dataset.path, dataset.manifest)
    if state in known:
        return
    verify_files(dataset.path, dataset.manifest, extra=False)
    if SEAL not in dataset.manifest:  # one of before version 0.3
        verify_statements(dataset)
    os.environ[VERIFIED] = " ".join([*known[1 - MOST :], state])


def verify_statements(dataset: "Dataset") -> None:
    """Compare what a manifest says of its arrays with the arrays. Raises FastcifarError where they differ."""
    from fastcifar.data.dataset import split_of

    manifest, part = dataset.manifest, "train" if "train" in dataset.manifest["counts"] else "test"
    mean, std = zip(*map(mean_std, histogram_of(dataset.images(part))), strict=True)
    if (list(mean), list(std)) != (manifest["mean"], manifest["std"]):
        raise FastcifarError(f"{dataset.path / MANIFEST} has a mean and std that are not those of its images; {CURE}")
    seed = manifest["split_seed"]
    if seed is not None and (split_of(manifest["counts"]["train"], seed) != dataset.split()).any():
        raise FastcifarError(f"{dataset.path / MANIFEST} has split_seed {seed}, which gives another split; {CURE}")


def _fault(path: Path, name: str, entry: Mapping[str, Any]) -> str | None:
    size = (path / name).stat().st_size
    if size != entry["bytes"]:
        return f"{name} has {size:,} bytes, not the {entry['bytes']:,} written"
    digest = hashlib.sha256()
    with open(path / name, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return f"{name} differs from what was written" if digest.hexdigest() != entry["sha256"] else None


def _state(path: Path, manifest: Mapping[str, Any]) -> str:
    """Return 16 hex digits that change when a file is written, replaced or removed."""
    facts: list[object] = [str(path.resolve()), (path / MANIFEST).read_bytes()]
    for name in manifest["files"]:
        file = path / name
        status = file.stat() if file.is_file() else None
        facts.append((name, status and (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)))
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
