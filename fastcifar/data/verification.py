"""Verification: whether the files of a dataset directory are as its manifest says. It is done once a process tree."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastcifar.data.manifest import CURE, MANIFEST, files_in, histogram_of, mean_std
from fastcifar.errors import FastcifarError
from fastcifar.show.progress import track
from fastcifar.system import once
from fastcifar.system.machine import allowed_cores
from fastcifar.system.seals import SEAL, sha256_of

if TYPE_CHECKING:
    from fastcifar.data.dataset import Dataset

VERIFIED = "FASTCIFAR_VERIFIED"
"""The environment variable with the states of the datasets that this process, or one that started it, has verified."""


def verify_files(path: Path, manifest: Mapping[str, Any], extra: bool) -> None:
    """Hash every file of a dataset directory again.

    extra: whether a file that the manifest does not have is a fault. Raises FastcifarError with the name of each file
    that is missing, additional or different.
    """
    files = manifest["files"]
    added = sorted(files_in(path) - files.keys()) if extra else []
    faults = [f"{name} is not in the manifest" for name in added]
    sizes = [entry["bytes"] for entry in files.values()]
    with ThreadPoolExecutor(len(allowed_cores())) as pool:
        checked = zip(pool.map(lambda name: _fault(path, name, files[name]), files), sizes, strict=True)
        shown = track(checked, f"verifying {path.name}", sum(sizes), lambda pair: pair[1])
        faults += [fault for fault, _ in shown if fault]
    if faults:
        cure = CURE if len(faults) > len(added) else "move what does not belong to the dataset away"
        raise FastcifarError(f"{path} is not as it was written: {'; '.join(faults)}; {cure}")


def verify_once(dataset: "Dataset") -> None:
    """Verify a dataset directory, unless this process or one that started it has done so, and no file has changed.

    Raises FastcifarError as `verify_files` does, and for a manifest that contradicts the arrays.
    """
    state = _state(dataset.path, dataset.manifest)
    if state in once.known(VERIFIED):
        return
    verify_files(dataset.path, dataset.manifest, extra=False)
    if SEAL not in dataset.manifest:  # one of before version 0.3
        verify_statements(dataset)
    once.remember(VERIFIED, state)


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


def wrong_size(file: Path, entry: Mapping[str, Any]) -> str | None:
    """Return the predicate of a sentence where a file is missing or has not its size in the manifest; else None."""
    size = file.stat().st_size if file.is_file() else None
    if size == entry["bytes"]:
        return None
    return "is missing" if size is None else f"has {size:,} bytes, not the {entry['bytes']:,} written"


def _fault(path: Path, name: str, entry: Mapping[str, Any]) -> str | None:
    if wrong := wrong_size(path / name, entry):
        return f"{name} {wrong}"
    return f"{name} differs from what was written" if sha256_of(path / name) != entry["sha256"] else None


def _state(path: Path, manifest: Mapping[str, Any]) -> str:
    """Return 16 hex digits that change when a file is written, replaced or removed."""
    facts: list[object] = [str(path.resolve()), (path / MANIFEST).read_bytes()]
    for name in manifest["files"]:
        file = path / name
        status = file.stat() if file.is_file() else None
        facts.append((name, status and (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)))
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
