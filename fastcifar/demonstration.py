"""``fastcifar demo``: the main job, start to end, on images that come with a library."""

from collections.abc import Callable
from pathlib import Path

from fastcifar import session
from fastcifar.convert import convert
from fastcifar.devices import device_of
from fastcifar.errors import UsageError
from fastcifar.formats import FORMATS, extra_formats

EPOCHS = 10
NEXT = """
next, on real CIFAR-10 (Kaggle's cifar-10.zip, the original archives or class folders; see fastcifar convert --help):
  fastcifar convert cifar-10.zip data/cifar10
  fastcifar train --exp 2 --data data/cifar10
  fastcifar preview --data data/cifar10 --recipe erasing"""


def run(folder: Path, note: Callable[[str], None]) -> session.Session:
    """Convert ``digits`` into every form that this machine can write, and train experiment 2's headline configuration
    on it for EPOCHS epochs with three seeds. What cannot be written is noted with its reason.
    """
    formats = [name for name in FORMATS if _writable(name, note)]
    dataset = convert("digits", folder / "digits", formats, overwrite=True)
    device = device_of("auto")
    precision = session.precision_of("auto", device)
    specs = session.plan(2, dataset, overrides={"epochs": EPOCHS}, precision=precision)
    note(f"{dataset.name} in {', '.join(formats)}; training {len(specs)} seeds, {EPOCHS} epochs, {device}, {precision}")
    return session.run(specs, dataset, folder / "runs", device)


def _writable(name: str, note: Callable[[str], None]) -> bool:
    try:
        extra_formats([name])
    except UsageError as error:
        note(f"going on without the {name} form: {error}")
        return False
    return True
