"""The records of a step of the GPU check: rows, each written when it is measured, profiles, and failures."""

import gc
import math
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from bench.lib import rows
from fastcifar.data.convert import convert
from fastcifar.data.dataset import Dataset
from fastcifar.system.atomic import flush
from fastcifar.system.measure import environment
from fastcifar.system.scratch import Scratch

REASON = 500  # characters of an error's message in a row


class Notes:
    """The records of one step on one device.

    tiny: run the code on very little data, which measures nothing. until: the time by time.monotonic() at which the
    step will be ended.
    """

    def __init__(
        self,
        step: str,
        device: torch.device,
        path: Path | None,
        profile: Path | None = None,
        tiny: bool = False,
        until: float = math.inf,
    ) -> None:
        self.step, self.device, self.tiny, self._until = step, device, tiny, until
        self.wrong: list[str] = []
        """The failures, and the results that are not as required."""
        self._path, self._profile, self._around = path, profile, environment()

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    def left(self) -> float:
        """Return the seconds that are left for the step; infinity where nothing ends it."""
        return self._until - time.monotonic()

    def row(self, what: str, says: str, **values: Any) -> None:
        """Write a row and print the sentence ``says``. A row whose "verified" is False counts as a failure."""
        if values.get("verified") is False:
            self.wrong.append(f"{what}: {says}")
        print(says, flush=True)
        row = {"step": self.step, "what": what, "says": says, "device": str(self.device), **values}
        if self.tiny:
            row["tiny"] = True
        if self._path is not None:
            rows.append(row | {"environment": self._around}, self._path)

    @contextmanager
    def trying(self, what: str, about: str) -> Iterator[None]:
        """Write a row about any error that is raised within this context, so that the rest of the step still runs."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            reason = f"{type(error).__name__}: {error}"[:REASON]
            self.wrong.append(f"{about}: {reason}")
            self.row(what, f"{about}: failed: {reason}", about=about, failed=reason)

    def release(self) -> None:
        """Free cached device memory that nothing refers to, and reset the peak of memory use."""
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def profile(self, title: str, table: str) -> None:
        """Append a table to the file of profiles."""
        if self._profile is not None:
            with self._profile.open("ab") as file:
                file.write(f"\n== {self.step}: {title}\n{table}\n".encode())
                flush(file)

    @contextmanager
    def images(self, count: int, few: int = 25) -> Iterator[Dataset]:
        """Make a temporary dataset of ``count`` synthetic images, or of ``few`` in a tiny step."""
        with Scratch() as folder:
            yield convert(f"synthetic:{few if self.tiny else count}", Path(folder) / "dataset")
