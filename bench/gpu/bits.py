"""Compare our kernels with the reference bit by bit on a device, and time each candidate for their launch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.gpu.notes import Notes
from bench.lib import rows
from bench.lib.device import bandwidth, repeated, replayed, times_to_last
from fastcifar.augment import IMAGE_SIZE, Augment, draw
from fastcifar.recipes import RECIPES
from fastcifar.rng.cursor import clock_of
from fastcifar.rng.philox import Stream
from fastcifar.system.measure import Clock, alternate

SEED, EPOCH = 7, 3
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by the bytes of a value
DTYPES = (torch.bfloat16, torch.float32, torch.float16)
TIMED = [(recipe, dtype) for dtype in DTYPES[:2] for recipe in ("erasing", "imagenet384")]  # most valuable first
TIMED += [("airbench96", DTYPES[0])]
SETS = 4  # batches that a recorded call makes, each from its own images and into its own memory
# images of a batch, by the side of the result in pixels
BATCHES = {32: 32768, 384: 512}  # timed: hundreds of MB, several times a GPU's cache
COMPARED = {32: 256, 384: 16}  # compared of a timed batch: few, as the reference runs on the CPU
CHECKED = {32: 64, 384: 16}  # in batches that are compared and not timed
TINY = {32: 2, 384: 1}
TURN_SECONDS, REPEATS = 0.05, 7


def difference(got: Tensor, wanted: Tensor) -> dict[str, Any]:
    """Return the part of a row that compares two tensors of the same dtype and shape bit by bit.

    Raises ValueError for different dtypes or shapes.
    """
    if (got.shape, got.dtype) != (wanted.shape, wanted.dtype):
        raise ValueError(f"{got.shape} of {got.dtype} cannot be compared with {wanted.shape} of {wanted.dtype}")
    ours, theirs = (part.detach().cpu().view(INTEGERS[part.dtype.itemsize]) for part in (got, wanted))
    apart = ours != theirs
    count = int(apart.sum())
    first = apart.nonzero()[0].tolist() if count else None
    return {"values": apart.numel(), "differing": count, "first_differing": first, "verified": count == 0}


def in_words(result: dict[str, Any]) -> str:
    """Return the result of `difference` in words."""
    if result["verified"]:
        return f"{result['values']:,} values, bits equal"
    return f"{result['differing']:,} of {result['values']:,} values DIFFER, the first at {result['first_differing']}"


@dataclass
class Sets:
    """Batches of random images on a device, and the memory that they are rendered into."""

    spec: Augment
    dtype: torch.dtype
    device: torch.device
    batch: int
    count: int

    def __post_init__(self) -> None:
        generator = np.random.default_rng(0)
        images = self.count * self.batch
        self.source = torch.from_numpy(generator.integers(0, 256, (images, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8))
        self.order = generator.permutation(images)
        self._images, self._order = self.source.to(self.device), torch.from_numpy(self.order).to(self.device)
        self._known: dict[bytes, Tensor] = {}
        self._labels = torch.arange(images, device=self.device) * 7
        self._clocks = [clock_of(SEED, EPOCH, self.device, k) for k in range(self.count)]
        size = self.spec.out_size
        self.outs = [
            torch.empty((self.batch, 3, size, size), dtype=self.dtype, device=self.device,
                        memory_format=torch.channels_last)
            for _ in range(self.count)
        ]  # fmt: skip
        self._out_labels, self._out_ids = torch.empty((2, self.count, self.batch), dtype=torch.int64,
                                                      device=self.device)  # fmt: skip

    def render(self, launch: Any = None) -> Tensor:
        """Render all batches and return the last one."""
        from fastcifar.kernels import gpu

        for k, out in enumerate(self.outs):
            gpu.render(
                self._images, self._labels, self._order, self._clocks[k], self.spec, out, self._out_labels[k],
                self._out_ids[k], launch=launch,
            )  # fmt: skip
        return self.outs[-1]

    def forget(self) -> None:
        """Overwrite all results, so that a kernel that writes nothing cannot pass with earlier results."""
        for values in (*self.outs, self._out_labels, self._out_ids):
            values.fill_(-99)

    def compared(self, few: int) -> dict[str, Any]:
        """Compare pixels of at most ``few`` images of each batch with the reference, and all labels and ids."""
        every = -(-self.batch // few)
        picked = [slice(k * self.batch, (k + 1) * self.batch, every) for k in range(self.count)]
        ids = np.concatenate([self.order[part] for part in picked])
        wanted = self._reference(ids)
        got = torch.cat([out[::every].cpu() for out in self.outs])
        result = difference(got, wanted)
        order = torch.from_numpy(self.order)
        result["ids_equal"] = torch.equal(self._out_ids.cpu().flatten(), order)
        result["labels_equal"] = torch.equal(self._out_labels.cpu().flatten(), order * 7)
        result["verified"] = result["verified"] and result["ids_equal"] and result["labels_equal"]
        return result

    def _reference(self, ids: Any) -> Tensor:
        from fastcifar.kernels import reference

        key = ids.tobytes()
        if key not in self._known:  # the same for every launch
            made = reference.apply(self.source[ids], draw(self.spec, SEED, EPOCH, ids), self.spec, self.dtype)
            self._known = {key: made}
        return self._known[key]


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def pixel_bits(notes: Notes) -> None:
    """Write a row for each dtype and recipe: these recipes have all operations, and the largest images."""
    for dtype in DTYPES:
        for recipe in ("erasing",) if notes.tiny and dtype != DTYPES[0] else ("erasing", "imagenet384", "airbench96"):
            about, spec = f"{recipe} {name_of(dtype)}", RECIPES[recipe]
            with notes.trying("bits", about):
                sets = Sets(spec, dtype, notes.device, (TINY if notes.tiny else CHECKED)[spec.out_size], 2)
                sets.forget()
                with Clock(str(notes.device)) as clock:
                    sets.render()
                result = sets.compared(sets.batch)
                says = f"{about}: {in_words(result)}; labels {_equal(result, 'labels')}, ids {_equal(result, 'ids')}; "
                says += f"compiled and rendered in {clock.seconds:.2f} s"
                notes.row("bits", says, recipe=recipe, dtype=name_of(dtype), first_seconds=clock.seconds, **result)


def _equal(result: dict[str, Any], what: str) -> str:
    return "equal" if result[f"{what}_equal"] else "DIFFER"


def dropped(notes: Notes) -> None:
    """Write a row that compares the units that the dropout kernel keeps with Philox on the host."""
    from fastcifar.kernels.gpu import dropout

    from fastcifar.models.dropout import Noise

    with notes.trying("dropout", "dropout"):
        ids = torch.from_numpy(np.random.default_rng(0).permutation(5 if notes.tiny else 512))
        rate, layer, units = 0.5, 3, 70
        wanted = Noise.of(SEED, EPOCH, ids).kept(rate, layer, units)
        got = dropout.kept(
            ids.to(notes.device), clock_of(SEED, EPOCH, notes.device), round(rate * 2**32), float(np.float32(1 / rate)),
            int(Stream.DROPOUT + (layer << 16)), units,
        )  # fmt: skip
        result = difference(got, wanted)
        notes.row("dropout", f"dropout: {in_words(result)}", **result)


def moved(spec: Augment, dtype: torch.dtype) -> int:
    """Return the bytes that must be read and written for an image."""
    return 3 * IMAGE_SIZE**2 + 3 * spec.out_size**2 * dtype.itemsize


def kernels(notes: Notes) -> None:
    """Write a row of images/s for the chosen launch, then for each candidate. Each is compared before it is timed."""
    from fastcifar.kernels import gpu

    copied = bandwidth(notes.device, *((1 << 20, 1, 2) if notes.tiny else ())).copy
    for recipe, dtype in TIMED[:2] if notes.tiny else TIMED:
        spec = RECIPES[recipe]
        about = f"{recipe} {name_of(dtype)}"
        with notes.trying("kernel", about):
            chosen = gpu.CHOSEN
            # without random draws, the candidates for where to draw are equal
            others = [one for one in gpu.CANDIDATES if one != chosen and (spec.random or one.dice == chosen.dice)]
            batch = (TINY if notes.tiny else BATCHES)[spec.out_size]
            sets = Sets(spec, dtype, notes.device, batch, 1 if notes.tiny else SETS)
            for launch in [chosen, *(others[-1:] if notes.tiny else others)]:
                label = f"{about}, {launch.warps} warps, dice {launch.dice}"
                with notes.trying("kernel", label):
                    _timed(notes, sets, launch, label, copied, recipe=recipe, chosen=launch == chosen)
        notes.release()


def _timed(notes: Notes, sets: Sets, launch: Any, label: str, copied: float, **more: Any) -> None:
    def call() -> Tensor:
        return sets.render(launch)

    sets.forget()
    with Clock(str(notes.device)) as clock:
        call()
    replay: Callable[[], object] = replayed(call) if notes.cuda else call
    sets.forget()
    replay()
    result = sets.compared(COMPARED[sets.spec.out_size])
    row = {
        "dtype": name_of(sets.dtype), "batch_size": sets.batch, "sets": sets.count, "launch": launch._asdict(),
        "first_seconds": clock.seconds, "copy_bandwidth": copied, **more, **result,
    }  # fmt: skip
    if not result["verified"]:
        notes.row("kernel", f"{label}: {in_words(result)}; not timed", **row)
        return
    times = times_to_last(replay, TURN_SECONDS, notes.device) if notes.cuda else 1
    turn = {label: repeated(replay, times)}
    repeats, warmup = (1, 0) if notes.tiny else (REPEATS, 1)
    timing = alternate(turn, repeats, warmup, str(notes.device))[label]
    speed = rows.rates(timing, times * sets.count * sets.batch)
    share = speed["images_per_s"] * moved(sets.spec, sets.dtype) / copied
    says = f"{label}{' (chosen)' if more['chosen'] else ''}: {speed['images_per_s']:,.0f} images/s, {share:.1%} of copy"
    notes.row(
        "kernel", says, **row, **speed, bytes_per_image=moved(sets.spec, sets.dtype), ceiling_share=share
    )  # fmt: skip


def memory(notes: Notes) -> None:
    """Write a row of the bytes a second that the device's memory copies and fills."""
    with notes.trying("bandwidth", "bandwidth"):
        measured = bandwidth(notes.device, *((1 << 20, 1, 2) if notes.tiny else ()))
        says = f"memory copies {measured.copy / 1e12:.3f} TB/s (read and written), fills {measured.fill / 1e12:.3f}"
        notes.row("bandwidth", says, copy_bandwidth=measured.copy, fill_bandwidth=measured.fill)
