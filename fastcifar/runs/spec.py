"""The specification of a run: all values that its results depend on."""

import hashlib
import json
from dataclasses import dataclass, fields
from functools import cached_property

import torch

from fastcifar.augment import IMAGE_SIZE
from fastcifar.errors import UsageError
from fastcifar.experiments import PROTOCOLS
from fastcifar.models import MODELS, MOST_IMAGES, check_model
from fastcifar.rng.philox import key_of

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class RunSpec:
    """All values that the results of a run depend on. Raises UsageError for a value out of range."""

    experiment: int
    protocol: str
    model: str
    batch_size: int
    lr: float
    l2: float
    """Adam's coupled weight decay."""
    dropout: float
    recipe: str
    seed: int
    dataset: str
    """The SHA-256 of the dataset."""
    epochs: int = 100
    """The largest number of epochs; early stopping may end a run before."""
    precision: str = "bfloat16"
    """The precision of activations and pixels, a key of PRECISIONS. Weights and Adam's moments are float32."""
    pipeline: str = "resident"
    tune: str = "full"
    """How a pretrained network is fine-tuned: one of models.tuning.WAYS."""
    weights: str = "none"
    """The initial weights: the identity of a published.Weights, or none."""

    def __post_init__(self) -> None:
        for name, low, high in (("lr", 1e-9, 10_000), ("l2", 0, 10), ("dropout", 0, 0.99), ("epochs", 1, 100_000),
                                ("batch_size", 1, MOST_IMAGES), ("seed", 0, (1 << 64) - 1)):  # fmt: skip
            if not low <= getattr(self, name) <= high:
                raise UsageError(
                    f"{name} {getattr(self, name)} is outside [{low:g}, {high:g}]; choose a value in this range"
                )
        for name, known in (("precision", PRECISIONS), ("protocol", PROTOCOLS)):
            if getattr(self, name) not in known:
                raise UsageError(f"{name} {getattr(self, name)!r} does not exist; there are {', '.join(known)}")
        check_model(self.model, self.dropout)
        side = PROTOCOLS[self.protocol].recipe(self.recipe).out_size
        if self.model not in MODELS:
            from fastcifar.models import tuning  # torchvision's models take a second to import

            tuning.check_tune(self.tune)
            return
        if (self.tune, self.weights) != ("full", "none"):
            raise UsageError(f"{self.model} is not pretrained; leave tune at 'full' and weights at 'none'")
        if side != IMAGE_SIZE:
            raise UsageError(
                f"recipe {self.recipe!r} makes images of {side} x {side} pixels, but {self.model} takes "
                f"{IMAGE_SIZE} x {IMAGE_SIZE}; choose another recipe, as fastcifar list recipes shows them"
            )

    @cached_property
    def label(self) -> str:
        """A readable name of the configuration, without the seed."""
        tuned = "" if self.tune == "full" else f"-{self.tune}"
        if self.model not in MODELS and self.weights == "none":
            tuned += "-scratch"
        return (
            f"{self.model.replace(':', '-').replace('/', '-')}-{self.recipe}-b{self.batch_size}-lr{self.lr:g}"
            f"-l2_{self.l2:g}-d{self.dropout:g}{tuned}-{self.protocol}"
        )

    @cached_property
    def run_id(self) -> str:
        """The label, the seed and a hash of all fields. Equal specs have equal ids, also for lr 1 and lr 1.0."""
        before, after = self._hashed
        digest = hashlib.sha256(f"{before}{int(self.seed)}{after}".encode()).hexdigest()
        return f"{self.label}-s{self.seed}-{digest[:8]}"

    def with_seed(self, seed: int) -> "RunSpec":
        """Return the same configuration with another seed, in [0, 2**64).

        This is twenty times as fast as making a RunSpec. Raises UsageError for a seed out of range.
        """
        key_of(seed)
        other = object.__new__(RunSpec)
        _ = self.label, self._hashed  # computed once for all seeds, as neither depends on the seed
        other.__dict__.update({key: value for key, value in self.__dict__.items() if key != "run_id"}, seed=seed)
        return other

    @cached_property
    def _hashed(self) -> tuple[str, str]:
        """The text that the run id hashes, in two parts, before and after the seed.

        It is JSON of the typed fields, sorted by name.
        """
        values = {field.name: field.type(getattr(self, field.name)) for field in fields(self)}  # type: ignore[operator]
        for field in fields(self):  # these fields were added later; without them, older runs keep their ids
            if field.name in ("tune", "weights") and values[field.name] == field.default:
                del values[field.name]
        before, _, after = json.dumps(values | {"seed": None}, sort_keys=True).partition('"seed": null')
        return f'{before}"seed": ', after
