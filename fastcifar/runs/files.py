"""The files of a run's directory. Each file is written completely or not at all, and parsed before it is used."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastcifar.errors import FastcifarError
from fastcifar.system.atomic import flush, write_whole

if TYPE_CHECKING:  # `fastcifar runs` reads directories without torch, which takes a second to import
    import torch
    from torch import Tensor


class RunFiles:
    """A folder of files in JSON, JSON lines and safetensors. No file is ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, content: bytes) -> None:
        """Replace a file. It is on the disk when this returns. Raises FastcifarError where it cannot be written."""
        with self._writing(name):
            write_whole(self.path / name, content)

    def append(self, name: str, content: bytes) -> None:
        """Append to a file. The content is on the disk when this returns.

        Raises FastcifarError where the file cannot be written.
        """
        with self._writing(name), open(self.path / name, "ab") as file:
            file.write(content)
            flush(file)

    def parsed(self, name: str) -> dict[str, Any] | None:
        """Return the JSON object of a file, or None without the file. Raises FastcifarError for a damaged file."""
        try:
            return self._parsed(name, (self.path / name).read_bytes())
        except FileNotFoundError:
            return None

    def parsed_lines(self, name: str) -> list[dict[str, Any]]:
        """Return the JSON objects of the lines of a file. A last line that an interruption cut short is left out.

        Raises FastcifarError where the file is damaged in another way.
        """
        try:
            lines = (self.path / name).read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        return [self._parsed(name, line) for line in lines if line.endswith(b"\n")]

    def save_tensors(self, name: str, tensors: Mapping[str, "Tensor"], note: Mapping[str, Any]) -> None:
        """Write tensors to NAME.safetensors. note: written as JSON to the file's header."""
        from safetensors.torch import save

        contiguous = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        self.write(f"{name}.safetensors", save(contiguous, metadata={"note": json.dumps(note)}))

    def load_tensors(self, name: str, device: "torch.device") -> tuple[dict[str, "Tensor"], dict[str, Any]] | None:
        """Return the tensors, on ``device``, and the note that `save_tensors` wrote, or None where there is no file.

        Raises FastcifarError for a damaged file.
        """
        from safetensors import SafetensorError, safe_open

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
        """Return the files of the run, sorted, without the lock and without files that are being written."""
        return sorted(file for file in self.path.glob("[!.]*") if file.is_file() and file.name != "lock")

    def receive(self, contents: Mapping[str, bytes]) -> None:
        """Write files that another machine sent, contents by file name.

        The summary is written last, because it marks the run as finished.
        """
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
        """Turn an OSError into a FastcifarError that names the file; the error of a full disk does not name it."""
        try:
            yield
        except OSError as error:
            raise FastcifarError(
                f"cannot write {self.path / name} ({error.strerror}); once it can be written, run the same command "
                "again: it continues from the last whole epoch"
            ) from error
