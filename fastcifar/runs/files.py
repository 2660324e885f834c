"""The files of a run's directory. Each file is written completely or not at all, and parsed before it is used."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastcifar.errors import FastcifarError
from fastcifar.runs.schemas import Note
from fastcifar.system.atomic import flush, write_whole
from fastcifar.system.schema import parse, parse_object, read_object
from fastcifar.system.seals import SEAL, tensors_seal

if TYPE_CHECKING:  # `fastcifar runs` reads directories without torch, which takes a second to import
    import torch
    from torch import Tensor

SMALL = 1 << 20
"""The bytes of a tensor up to which it is copied from a device together with others, which takes memory there."""
LONGEST = 1 << 16
"""The most bytes of a line of JSON. A line of metrics.jsonl has about 250."""


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

    @property
    def cure(self) -> str:
        """What to do with a damaged file, as the end of a message."""
        return f"delete {self.path} to train it anew"

    def damaged(self, name: str, fault: object) -> FastcifarError:
        """Return the error for a damaged file. fault: what is wrong with it."""
        return FastcifarError(f"{self.path / name} is damaged ({fault}); {self.cure}")

    def parsed(self, name: str, schema: Any) -> dict[str, Any] | None:
        """Return the JSON object of a file, or None without the file. Raises FastcifarError for a damaged file.

        schema: a TypedDict of the module `schemas`.
        """
        try:
            return read_object(self.path / name, schema, self.cure)
        except FileNotFoundError:
            return None

    def parsed_lines(self, name: str, schema: Any) -> Iterator[dict[str, Any]]:
        """Yield the JSON objects of the lines of a file. A last line that an interruption cut short is left out.

        Raises FastcifarError at a line that is damaged in another way.
        """
        file = self.path / name
        if not file.exists():
            return
        with open(file, "rb") as opened:
            for number, line in enumerate(iter(lambda: opened.readline(LONGEST), b""), 1):
                if line.endswith(b"\n"):
                    yield parse_object(line, schema, f"line {number} of {file}", self.cure)
                elif len(line) == LONGEST:
                    raise self.damaged(name, f"line {number} has more than {LONGEST:,} bytes")

    def save_tensors(self, name: str, tensors: Mapping[str, "Tensor"], note: Mapping[str, Any]) -> None:
        """Write tensors to NAME.safetensors. note: written as JSON to the file's header, with a seal of both."""
        self.write(f"{name}.safetensors", self.content(tensors, note))

    def content(self, tensors: Mapping[str, "Tensor"], note: Mapping[str, Any]) -> bytes:
        """Return the content of a file that `save_tensors` would write."""
        from safetensors.torch import save

        contiguous = on_host(tensors)
        note = {**note, SEAL: tensors_seal(contiguous, json.dumps(note))}
        # one entry, because safetensors writes several in an order that differs from call to call
        content: bytes = save(contiguous, {"note": json.dumps(note)})
        return content

    def load_tensors(
        self, name: str, device: "torch.device", must_be_sealed: bool = False
    ) -> tuple[dict[str, "Tensor"], dict[str, Any]] | None:
        """Return the tensors, on ``device``, and the note that `save_tensors` wrote, or None where there is no file.

        must_be_sealed: whether a file without a seal is damaged. Raises FastcifarError for a damaged file.
        """
        from safetensors import SafetensorError, safe_open

        file = self.path / f"{name}.safetensors"
        if not file.exists():
            return None
        try:
            with safe_open(file, framework="pt", device="cpu") as opened:
                about = opened.metadata() or {}
                tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
            if "note" not in about:
                raise ValueError("its note is missing")
            note: dict[str, Any] = parse(about["note"], Note)
            seal = note.pop(SEAL, None)
            if (must_be_sealed or seal is not None) and seal != tensors_seal(tensors, json.dumps(note)):
                raise ValueError("its seal is not that of its content")
        except (SafetensorError, TypeError, ValueError) as error:
            raise self.damaged(file.name, error) from error
        return {key: tensor.to(device) for key, tensor in tensors.items()}, note

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


def on_host(tensors: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    """Return the tensors in host memory, contiguous. Small ones of a device are `gathered` first."""
    small = {key: tensor for key, tensor in tensors.items() if tensor.device.type != "cpu" and tensor.nbytes <= SMALL}
    there = gathered(small)
    return {key: there[key] if key in there else tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}


def gathered(tensors: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    """Return copies in host memory, contiguous. Each dtype takes one copy, as the host waits for each copy."""
    import torch

    copies: dict[str, Tensor] = {}
    for dtype in {tensor.dtype for tensor in tensors.values()}:
        alike = {key: tensor.detach() for key, tensor in tensors.items() if tensor.dtype == dtype}
        flat = torch.cat([tensor.reshape(-1) for tensor in alike.values()]).cpu()
        parts = flat.split([tensor.numel() for tensor in alike.values()])
        copies |= {key: part.view(alike[key].shape) for key, part in zip(alike, parts, strict=True)}
    return copies
