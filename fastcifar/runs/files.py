"""The files of a run's directory: each is written whole or not at all, and parsed before anything believes it."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fastcifar.errors import FastcifarError
from fastcifar.system.atomic import write_whole


class RunFiles:
    """A folder of JSON, JSON lines and safetensors. Nothing in it is ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, content: bytes) -> None:
        """Replace a file, which is on the disk before this returns. Raises FastcifarError where that fails."""
        with self._writing(name):
            write_whole(self.path / name, content)

    def append(self, name: str, content: bytes) -> None:
        """Add to a file, on the disk before this returns. Raises FastcifarError where it cannot be written."""
        with self._writing(name), open(self.path / name, "ab") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def parsed(self, name: str) -> dict[str, Any] | None:
        """The JSON object of a file, or None where there is no such file. Raises FastcifarError for a damaged file."""
        try:
            return self._parsed(name, (self.path / name).read_bytes())
        except FileNotFoundError:
            return None

    def parsed_lines(self, name: str) -> list[dict[str, Any]]:
        """The JSON objects of a file's lines; a last line that an interruption cut short is left out.

        Raises FastcifarError where something else damaged the file.
        """
        try:
            lines = (self.path / name).read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        return [self._parsed(name, line) for line in lines if line.endswith(b"\n")]

    def save_tensors(self, name: str, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
        """Write NAME.safetensors with a JSON note in its header."""
        contiguous = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        self.write(f"{name}.safetensors", save(contiguous, metadata={"note": json.dumps(note)}))

    def load_tensors(self, name: str, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What `save_tensors` wrote, or None. Raises FastcifarError for a damaged file."""
        file = self.path / f"{name}.safetensors"
        if not file.exists():
            return None
        try:
            with safe_open(file, framework="pt", device=str(device)) as opened:
                note = json.loads(opened.metadata()["note"])
                return {key: opened.get_tensor(key) for key in opened.keys()}, note  # noqa: SIM118
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise FastcifarError(f"{file} is damaged ({error}); delete {self.path} to train it anew") from error

    def files(self) -> list[Path]:
        """The files of the run, without those that are only for this machine: the lock, and files being written."""
        return sorted(file for file in self.path.glob("[!.]*") if file.is_file() and file.name != "lock")

    def receive(self, contents: Mapping[str, bytes]) -> None:
        """Write files that another machine sent; the summary last, as it makes the run finished."""
        self.path.mkdir(parents=True, exist_ok=True)
        for name in sorted(contents, key=lambda name: name == "summary.json"):
            self.write(Path(name).name, contents[name])
        if "summary.json" in contents:
            (self.path / "checkpoint.safetensors").unlink(missing_ok=True)

    def _parsed(self, name: str, content: bytes) -> dict[str, Any]:
        try:
            parsed: dict[str, Any] = json.loads(content)
            if not isinstance(parsed, dict):
                raise ValueError(f"it holds {json.dumps(parsed)[:40]}")
        except ValueError as error:
            raise FastcifarError(
                f"{self.path / name} is damaged ({error}); delete {self.path} to train it anew"
            ) from error
        return parsed

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        """Name the file in the error of a full disk, which names none."""
        try:
            yield
        except OSError as error:
            raise FastcifarError(
                f"cannot write {self.path / name} ({error.strerror}); once it can be, the same command goes on from "
                "the last whole epoch"
            ) from error
