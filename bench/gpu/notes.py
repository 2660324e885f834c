"""What a step of the GPU check notes: rows, each written when it is measured, profiles, and what went wrong."""

import gc
import os
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from bench.lib import rows
from fastcifar.data.convert import convert
from fastcifar.data.dataset import Dataset
from fastcifar.system.measure import environment

REASON = 500  # characters of an error's message in a row


class Notes:
    """Of one step, on one device. tiny: next to nothing of everything, which measures nothing."""

    def __init__(
        self, step: str, device: torch.device, path: Path | None, profile: Path | None = None, tiny: bool = False
    ) -> None:
        self.step, self.device, self.tiny = step, device, tiny
        self.wrong: list[str] = []
        """what failed, or gave other results than it must"""
        self._path, self._profile, self._around = path, profile, environment()

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    def row(self, what: str, says: str, **found: Any) -> None:
        """Write a row and print what it says. A row whose "verified" is False is something wrong."""
        if found.get("verified") is False:
            self.wrong.append(f"{what}: {says}")
        print(says, flush=True)
        row = {"step": self.step, "what": what, "says": says, "device": str(self.device), **found}
        if self.tiny:
            row["tiny"] = True
        if self._path is not None:
            rows.append(row | {"environment": self._around}, self._path)

    @contextmanager
    def trying(self, what: str, about: str) -> Iterator[None]:
        """Whatever is raised within gets a row that says so, and does not keep the rest of the step from its turn."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            reason = f"{type(error).__name__}: {error}"[:REASON]
            self.wrong.append(f"{about}: {reason}")
            self.row(what, f"{about}: failed: {reason}", about=about, failed=reason)

    def release(self) -> None:
        """Give the device's memory back that nothing refers to any more, and count its peak anew."""
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def profile(self, title: str, table: str) -> None:
        """Add a table to the file of profiles."""
        if self._profile is not None:
            with self._profile.open("ab") as file:
                file.write(f"\n== {self.step}: {title}\n{table}\n".encode())
                file.flush()
                os.fsync(file.fileno())

    @contextmanager
    def images(self, count: int, few: int = 25) -> Iterator[Dataset]:
        """A dataset of synthetic images; of ``few`` where next to nothing is to be done."""
        with tempfile.TemporaryDirectory(prefix="fastcifar-gpu-") as folder:
            yield convert(f"synthetic:{few if self.tiny else count}", Path(folder) / "dataset")
