"""The schemas of the files in a run's directory. Files that older versions wrote fit them, too."""

from typing import Any, Literal, TypedDict

from fastcifar.show.provenance import Environment
from fastcifar.system.schema import Count, Ordinal, Quantity, Share, Text


class _Spec(TypedDict):
    experiment: Count
    protocol: Literal["sound", "report", "as-run"]
    model: Text
    batch_size: Ordinal
    lr: Quantity
    l2: Quantity
    dropout: Share
    recipe: Text
    seed: Count
    dataset: str


class Spec(_Spec, total=False):
    """The fields of a RunSpec. Older runs do not have all of them."""

    epochs: Ordinal
    precision: str
    pipeline: str
    tune: str
    weights: str
    optimizer: str
    schedule: str
    smoothing: Share
    code: str


class _Trained(TypedDict):
    name: str
    sha256: str


class Trained(_Trained, total=False):
    """The dataset of a run."""

    classes: list[str]
    verified: bool
    images_of_classes: list[Count]
    mean: list[float]
    std: list[float]


class _Begun(TypedDict):
    spec: Spec


class Begun(_Begun, total=False):
    """run.json."""

    dataset: Trained
    environment: Environment
    device: str
    mode: str
    sealed_later: str
    seal: str


class _Line(TypedDict):
    epoch: Ordinal
    train_loss: float | None
    val_loss: float | None
    val_accuracy: Share | None
    seconds: Quantity


class Line(_Line, total=False):
    """A line of metrics.jsonl."""

    lr: Quantity
    time: Quantity
    images_per_s: Quantity
    stall: float
    peak_share: Quantity
    seal: str


class _Summary(TypedDict):
    status: Literal["finished", "diverged"]
    epochs: Count
    kept_epoch: Ordinal | None
    val_accuracy: Share | None
    val_loss: float | None
    seconds: Quantity


class Summary(_Summary, total=False):
    """summary.json."""

    parameters: Count
    images_per_s: Quantity
    stall: float
    peak_share: Quantity
    peak_flops: Quantity
    activation_bytes: Quantity
    flops_per_image: Quantity
    peak_device_bytes: Count | None
    features_seconds: Quantity
    mode: str
    metrics: str
    seal: str


class Failure(TypedDict):
    """failure.json."""

    error: str
    when: Quantity


class _Note(TypedDict):
    epoch: Count


class Note(_Note, total=False):
    """The note in the metadata of a file of tensors."""

    model: str
    scaler: dict[str, Any]
    line: str | None
    before: str | None
    seal: str
