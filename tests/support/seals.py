"""Files that somebody changed and sealed anew, and runs of before there were seals."""

import hashlib
import json
from pathlib import Path

import safetensors.torch
from safetensors import safe_open

from fastcifar.data.manifest import MANIFEST, content_hash, manifest_bytes
from fastcifar.runs.directory import METRICS
from fastcifar.system.seals import SEAL, sealed, tensors_seal


def change_json(path: Path, change) -> None:
    """Let ``change`` change the content of a JSON file in place: an object, or for JSON lines the list of its objects.

    The seals stay as they are.
    """
    content = _read(path)
    change(content)
    _write(path, content)


def reseal(path: Path, change) -> None:
    """Like `change_json`, with seals that fit the new content: a manifest's, or those of the whole run.

    This is what somebody does who knows how a seal is made, so that only other checks can find the change.
    """
    change_json(path, change)
    if path.name == MANIFEST:
        path.write_bytes(manifest_bytes(_read(path)))
    else:
        _seal_run(path.parent)


def state_anew(dataset: Path) -> None:
    """Let a dataset's manifest state the files as they are now, as `convert` would have written it."""

    def change(manifest):
        for name, entry in manifest["files"].items():
            content = (dataset / name).read_bytes()
            entry.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        manifest["sha256"] = content_hash(manifest["files"], manifest["classes"])

    reseal(dataset / MANIFEST, change)


def unseal(path: Path) -> None:
    """Remove the seal of a manifest, or all seals of a run directory, as versions before 0.3 wrote them."""
    if path.name == MANIFEST:
        change_json(path, lambda manifest: (manifest.pop(SEAL), manifest["tools"].update(fastcifar="0.2.0")))
        return
    for file in path.glob("*.json*"):
        content = _read(file)
        for each in content if isinstance(content, list) else [content]:
            each.pop(SEAL, None)
            each.pop(METRICS, None)
        _write(file, content)
    for file in path.glob("*.safetensors"):
        tensors, about = load(file)
        note = {key: value for key, value in json.loads(about["note"]).items() if key not in ("line", SEAL)}
        safetensors.torch.save_file(tensors, file, {"note": json.dumps(note)})


def note_of(run: Path, epoch: int) -> dict:
    """Return the note of a file of tensors that belongs to an epoch of a run, counted from 1."""
    return {"epoch": epoch, "line": _read(run / "metrics.jsonl")[epoch - 1].get(SEAL)}


def load(file: Path):
    """Return the tensors of a file, and its metadata."""
    with safe_open(file, framework="pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata()  # noqa: SIM118


def rewrite_tensors(file: Path, change) -> None:
    """Let ``change(tensors, note)`` change a file of tensors in place, and seal it anew."""
    tensors, about = load(file)
    note = json.loads(about["note"])
    note.pop(SEAL, None)
    change(tensors, note)
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    note = {**note, SEAL: tensors_seal(tensors, json.dumps(note))}
    safetensors.torch.save_file(tensors, file, {"note": json.dumps(note)})


def _seal_run(run: Path) -> None:
    begun = sealed(_read(run / "run.json"))
    _write(run / "run.json", begun)
    lines, seals = run / "metrics.jsonl", [begun[SEAL]]
    if lines.exists():
        content = []
        for line in _read(lines):
            content.append(sealed(line, seals[-1]))
            seals.append(content[-1][SEAL])
        _write(lines, content)
    for file in run.glob("*.safetensors"):
        rewrite_tensors(file, lambda _, note: note.update(line=seals[note["epoch"]] if note["epoch"] else None))
    if (run / "summary.json").exists():
        digest = hashlib.sha256(lines.read_bytes() if lines.exists() else b"").hexdigest()
        _write(run / "summary.json", sealed(_read(run / "summary.json") | {METRICS: digest}, begun[SEAL]))


def _read(path: Path):
    text = path.read_text()
    return [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)


def _write(path: Path, content) -> None:
    text = "".join(json.dumps(line) + "\n" for line in content) if path.suffix == ".jsonl" else json.dumps(content)
    path.write_text(text)
