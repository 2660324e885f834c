"""The directory of a run: the files with its state and its results, and the chain of seals that holds them together."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from glob import escape
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.runs.lock import Lockable
from fastcifar.runs.schemas import Begun, Line, Summary
from fastcifar.runs.spec import MOST_EPOCHS, RunSpec, run_id_of, spec_values
from fastcifar.show.text import counted
from fastcifar.system.paths import path_of
from fastcifar.system.seals import SEAL, seal_of, sealed, sha256_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

RATES = ("images_per_s", "stall", "peak_share", "peak_flops")
TIMING = ("seconds", "time", *RATES)
"""The keys of metrics.jsonl and summary.json whose values are measured, so that they differ when a run is repeated. A
summary has the medians of RATES. peak_share and peak_flops are written for pretrained networks only."""
LARGEST = 1 << 30
"""The most bytes of metrics.jsonl: many times those of MOST_EPOCHS lines."""
ALONE = "it has a seal, but run.json has none"
METRICS = "metrics"
"""The key of the SHA-256 of metrics.jsonl in summary.json."""


class RunDirectory(Lockable):
    """The directory of a run, ``<out>/exp<N>/<run-id>/``.

    Its files are run.json, metrics.jsonl, checkpoint.safetensors, model.safetensors and summary.json. Seals chain them:
    that of run.json is the root, each line of metrics.jsonl follows the line before, files of tensors name the line of
    their epoch, and summary.json has the hash of metrics.jsonl. Runs of before version 0.3 have no seals.
    """

    _root: str | None = None
    _end: str | None = None
    """The seal of the last line of metrics.jsonl that this object kept or wrote."""

    @classmethod
    def of(cls, spec: RunSpec, out: Path) -> "RunDirectory":
        """Return the directory of a spec below ``out``. It need not exist."""
        return cls(path_of(out) / f"exp{spec.experiment}" / spec.run_id)

    def start(self, spec: RunSpec, context: Mapping[str, Any]) -> None:
        """Write run.json, unless it exists: the spec, and the context (dataset, environment) of the first epoch.

        Raises FastcifarError where run.json is missing beside the files of a run that was begun.
        """
        if self.begun():
            return
        if next(self.parsed_lines("metrics.jsonl", Line), None) is not None:
            raise self.damaged("run.json", "it is missing beside metrics.jsonl")
        self.write("run.json", json.dumps(sealed({"spec": asdict(spec), **context}), indent=1).encode())

    def require_trust(self, verified: bool) -> None:
        """Raise UsageError for a run on a dataset that was verified where this one was not, or the other way round.

        verified: `Dataset.verified` of the dataset to go on with. Runs of before version 0.3 do not say it.
        """
        stated = self.begun().get("dataset", {}).get("verified")
        if stated is True and not verified:
            raise UsageError(f"{self.path} began on a verified dataset; leave out --no-verify to go on")
        if stated is False and verified:
            raise UsageError(
                f"{self.path} was trained with --no-verify, so perhaps on other images; choose another folder with "
                "--out, or go on with --no-verify"
            )

    def begun(self) -> dict[str, Any]:
        """Return the content of run.json, empty where the run was never begun.

        Raises FastcifarError for a damaged file, and for a spec that is not that of the directory's name.
        """
        begun = self.parsed("run.json", Begun)
        if begun is None:
            return {}
        self._root = begun.pop(SEAL, None)
        if self._root is not None and self._root != seal_of(begun):
            raise self.damaged("run.json", "its seal is not that of its content")
        run_id = run_id_of(spec_values(begun["spec"]))
        if run_id != self.path.name and run_id != self.path.resolve().name:  # a link, or the present folder
            raise FastcifarError(
                f"{self.path / 'run.json'} has the spec of run {run_id}, which is not the name of its directory; give "
                f"the directory the name {run_id}, for a copy in a folder of its own"
            )
        return begun

    @property
    def root(self) -> str | None:
        """The seal of run.json, the first of the run's chain; None for a run that is not begun or has no seals."""
        if self._root is None:
            self.begun()
        return self._root

    def metrics(self) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl, one for each epoch so far. Raises FastcifarError for a damaged file."""
        return [line for line, _ in self._links()]

    def append_metrics(self, line: Mapping[str, Any]) -> str | None:
        """Append the line of an epoch to metrics.jsonl, and return its seal. It is on the disk when this returns."""
        self._end = self.next_seal(line)
        self.append("metrics.jsonl", _text(line, self._end))
        return self._end

    @property
    def end(self) -> str | None:
        """The last seal of the chain that this object kept or wrote; None for a run without seals."""
        return self._end or self.root

    def next_seal(self, line: Mapping[str, Any]) -> str | None:
        """Return the seal that a line will have when it is appended; None for a run without seals."""
        if self.root is None:
            return None
        return seal_of(line, self.end or "")

    def keep_metrics(self, epochs: int) -> list[dict[str, Any]]:
        """Keep only the first ``epochs`` lines of metrics.jsonl, and return them.

        An interruption may leave lines that are later than the checkpoint. The checkpoint is never later than the
        lines, so fewer lines raise FastcifarError.
        """
        kept = list(self._links(epochs))
        if len(kept) < epochs:
            raise FastcifarError(
                f"{self.path / 'metrics.jsonl'} has {len(kept)} of the {epochs} epochs that were trained before "
                f"checkpoint.safetensors was written; {self.cure}"
            )
        self.write("metrics.jsonl", b"".join(_text(*link) for link in kept))
        self._end = kept[-1][1] if kept else None
        return [line for line, _ in kept]

    def check_epoch(self, name: str, note: Mapping[str, Any]) -> None:
        """Raise FastcifarError unless a file of tensors belongs to the line of its epoch in metrics.jsonl.

        note: that of the file, whose epoch is the kept one in a run that has ended. Between two writes of a training,
        the file may be one epoch later than the lines.
        """
        if self.root is None:
            return
        file, summary = self.path / f"{name}.safetensors", self.summary()
        epoch, seals = note["epoch"], [seal for _, seal in self._links(note["epoch"])]
        if summary is not None and epoch != (kept := summary["kept_epoch"]):
            raise FastcifarError(
                f"{file} is of epoch {epoch}, but epoch {kept} was kept, as summary.json has it; {self.cure}"
            )
        if len(seals) == epoch and note.get("line") == (seals[-1] if seals else None):
            return
        last = seals[-1] if seals else self.root
        if len(seals) + 1 == epoch and summary is None and note.get("before") == last:
            return
        raise FastcifarError(
            f"{file} does not belong to epoch {epoch} of metrics.jsonl, which has {counted(len(seals), 'epoch')} up to "
            f"it; {self.cure}"
        )

    def summary(self) -> dict[str, Any] | None:
        """Return the summary of a finished run, else None.

        Raises FastcifarError where summary.json is damaged, or metrics.jsonl is not the file that it belongs to.
        """
        summary = self.parsed("summary.json", Summary)
        if summary is None:
            return None
        seal, before = summary.pop(SEAL, None), self.root
        if seal != (None if before is None else seal_of(summary, before)):
            raise self.damaged("summary.json", ALONE if before is None else "its seal is not that of its content")
        if summary.pop(METRICS, None) != (None if before is None else self._metrics_hash()):
            whole = counted(len(self.metrics()), "whole epoch")  # raises where it knows which epoch is damaged
            there = f"it has {whole}" if (self.path / "metrics.jsonl").exists() else "it is missing"
            raise self.damaged("metrics.jsonl", f"{there}, but summary.json belongs to other metrics")
        return summary

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json, which marks the run as finished, and delete the checkpoint."""
        if self.root is not None:
            summary = sealed({**summary, METRICS: self._metrics_hash()}, self.root)
        self.write("summary.json", json.dumps(summary, indent=1).encode())
        (self.path / "checkpoint.safetensors").unlink(missing_ok=True)

    def load_tensors(
        self, name: str, device: "torch.device", must_be_sealed: bool = False
    ) -> "tuple[dict[str, Tensor], dict[str, Any]] | None":
        """Return what `RunFiles.load_tensors` returns. In a run with seals, a file without one is damaged."""
        return super().load_tensors(name, device, must_be_sealed or self.root is not None)

    def _links(self, most: int | None = None) -> Iterator[tuple[dict[str, Any], str | None]]:
        """Yield the first ``most`` lines of metrics.jsonl, each with its seal, which is checked; None without seals."""
        before = self.root
        for epoch, line in enumerate(islice(self.parsed_lines("metrics.jsonl", Line), most), 1):
            if epoch > MOST_EPOCHS:
                raise self.damaged("metrics.jsonl", f"it has more than {MOST_EPOCHS:,} lines")
            if line["epoch"] != epoch:
                raise self.damaged("metrics.jsonl", f"line {epoch} is of epoch {line['epoch']}")
            seal = line.pop(SEAL, None)
            if seal != (None if before is None else seal_of(line, before)):
                fault = ALONE if before is None else f"the line of epoch {epoch} is not the one that was written there"
                raise self.damaged("metrics.jsonl", fault)
            yield line, seal
            before = seal

    def _metrics_hash(self) -> str:
        """Return the SHA-256 of metrics.jsonl; of no bytes where there is no such file."""
        file = self.path / "metrics.jsonl"
        if not file.exists():
            return hashlib.sha256().hexdigest()
        if file.stat().st_size > LARGEST:
            raise self.damaged("metrics.jsonl", f"it has more than {LARGEST:,} bytes")
        return sha256_of(file)


def alike(spec: RunSpec, out: Path) -> list[RunDirectory]:
    """Return the runs below ``out`` with the label and seed of a new run, sorted by path; none where it is not new."""
    new = RunDirectory.of(spec, out)
    if new.path.exists():
        return []
    return [RunDirectory(path) for path in sorted(new.path.parent.glob(f"{escape(spec.label)}-s{spec.seed}-*"))]


def find_runs(out: Path) -> list[RunDirectory]:
    """Return all run directories below ``out``, sorted by path."""
    return [RunDirectory(file.parent) for file in sorted(out.glob("exp*/*/run.json"))]


def require_runs(paths: Iterable[Path]) -> None:
    """Raise UsageError for a path that is no run directory, and FastcifarError where its run.json is damaged."""
    for path in paths:
        if not path.is_dir() or not RunDirectory(path).begun():
            raise UsageError(
                f"{path} is not a run directory, as it has no run.json; runs are called runs/exp<N>/<run-id>, and "
                "fastcifar list runs shows their ids"
            )


def _text(line: Mapping[str, Any], seal: str | None) -> bytes:
    return json.dumps(line if seal is None else {**line, SEAL: seal}).encode() + b"\n"
