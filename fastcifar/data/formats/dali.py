"""DALI's format: ``dali/train.tfrecord``, ``dali/test.tfrecord``, and text indexes with "offset size" in each line.

The features of a record are image (the 3,072 bytes of (32, 32, 3) uint8), label and id (int64). The id is the image's
row in its part; the label is -1 if the part has no labels. ``train.idx`` and ``test.idx`` list every record;
``training.idx`` and ``validation.idx`` list the records of the dataset's own splits in train.tfrecord.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import nvidia.dali
from nvidia.dali import fn, tfrecord

from fastcifar.data.dataset import Dataset
from fastcifar.data.formats.samples import I64, U8, Samples
from fastcifar.data.formats.tfrecord import example, framed
from fastcifar.data.sources.source import IMAGE_SHAPE
from fastcifar.show.progress import track
from fastcifar.system.atomic import writing

BATCH = 1024  # images read back at a time
SPLITS = ("training", "validation")


def version() -> str:
    """Return the version of DALI, which reads the files back."""
    return str(nvidia.dali.__version__)


def write(dataset: Dataset) -> None:
    """Write the records and indexes, read them back and compare. Raises FastcifarError if they differ."""
    folder = dataset.path / "dali"
    folder.mkdir()
    for part in dataset.manifest["counts"]:
        samples = Samples(dataset, part)
        records = folder / f"{part}.tfrecord"
        lines = _write_records(records, samples)
        rows = {part: np.arange(len(samples))}
        if part == "train":
            rows |= {split: dataset.ids(split) for split in SPLITS}
        for name, chosen in rows.items():
            index = folder / f"{name}.idx"
            with writing(index):
                index.write_text("".join(lines[row] for row in chosen))
            samples.compare(index, chosen, _read(records, index, len(chosen)))


def _write_records(path: Path, samples: Samples) -> list[str]:
    """Write the record of every sample; return its line of the index."""
    lines, offset = [], 0
    with writing(path), open(path, "wb") as file:
        for row in track(range(len(samples)), f"writing {path.name}"):
            image, label, number = samples[row]
            content = framed(example({"image": image.tobytes(), "label": label, "id": number}))
            file.write(content)
            lines.append(f"{offset} {len(content)}\n")
            offset += len(content)
    return lines


def _read(records: Path, index: Path, count: int) -> Iterator[tuple[U8, I64, I64]]:
    """Yield batches (images, labels, ids) from DALI's reader on the CPU.

    images: (n, 32, 32, 3) uint8. labels, ids: (n,) int64.
    """
    pipeline = nvidia.dali.Pipeline(batch_size=BATCH, num_threads=1, device_id=None)
    with pipeline:
        features = {
            "image": tfrecord.FixedLenFeature([], tfrecord.string, ""),
            "label": tfrecord.FixedLenFeature([1], tfrecord.int64, -1),
            "id": tfrecord.FixedLenFeature([1], tfrecord.int64, -1),
        }
        fields: Any = fn.readers.tfrecord(path=str(records), index_path=str(index), features=features)
        pipeline.set_outputs(fields["image"], fields["label"], fields["id"])
    pipeline.build()
    for start in range(0, count, BATCH):
        images, labels, ids = (np.stack([np.asarray(item) for item in output]) for output in pipeline.run())
        left = min(BATCH, count - start)  # DALI fills the last batch with records from the start
        yield images[:left].reshape(-1, *IMAGE_SHAPE), labels[:left, 0], ids[:left, 0]
