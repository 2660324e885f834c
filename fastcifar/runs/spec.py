"""The specification of a run: all values that its results depend on."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from fastcifar.augment import IMAGE_SIZE
from fastcifar.errors import UsageError, unknown
from fastcifar.experiments import PRETRAINED, PROTOCOLS
from fastcifar.models.names import MODELS, MOST_IMAGES, NO_CODE, check_model, check_tune, is_own, is_published, one_name
from fastcifar.recipes import canonical
from fastcifar.rng.philox import key_of

OPTIMIZERS = ("adam", "adamw", "sgd", "muon")
"""The optimizers. sgd has Nesterov momentum. muon trains matrices and convolutions, and sgd its other weights."""
SCHEDULES = ("constant", "cosine", "onecycle")
"""The schedules of the learning rate over all steps of a run. onecycle begins with a warm-up."""
PRECISIONS = ("float32", "bfloat16", "float16")
"""The names of the dtypes of activations and pixels, which `pipeline.arguments.dtype_of` takes."""

MOST_EPOCHS = 100_000
"""The most epochs of a run."""
ADDED = ("tune", "weights", "optimizer", "schedule", "smoothing", "code")
"""The fields that were added later. A run-id does not hash them where they have their default, so older ids stay."""


@dataclass(frozen=True)
class RunSpec:
    """All values that the results of a run depend on. Raises UsageError for a value out of range."""

    experiment: int
    protocol: str
    model: str
    batch_size: int
    lr: float
    """The learning rate, the largest one of the schedule."""
    l2: float
    """Weight decay, coupled in Adam and SGD, decoupled in AdamW and Muon."""
    dropout: float
    recipe: str
    seed: int
    dataset: str
    """The SHA-256 of the dataset."""
    epochs: int = 100
    """The largest number of epochs; early stopping may end a run before."""
    precision: str = "bfloat16"
    """The precision of activations and pixels, one of PRECISIONS. Weights and the optimizer's moments are float32."""
    pipeline: str = "resident"
    tune: str = "full"
    """How a pretrained network is fine-tuned: one of models.names.WAYS."""
    weights: str = "none"
    """The initial weights: the identity of a published.Weights, or none."""
    optimizer: str = "adam"
    """One of OPTIMIZERS."""
    schedule: str = "constant"
    """One of SCHEDULES."""
    smoothing: float = 0.0
    """Label smoothing of the training loss, in [0, 1): the share of a label that all classes get equally."""
    code: str = NO_CODE
    """The SHA-256 of the source of one's own network, by `own.code_of`."""

    def __post_init__(self) -> None:
        for name, low, high in (("lr", 1e-9, 10_000), ("l2", 0, 10), ("dropout", 0, 0.99), ("epochs", 1, MOST_EPOCHS),
                                ("batch_size", 1, MOST_IMAGES), ("seed", 0, (1 << 64) - 1)):  # fmt: skip
            if not low <= getattr(self, name) <= high:
                raise UsageError(
                    f"{name} {getattr(self, name)} is outside [{low:g}, {high:g}]; choose a value in this range"
                )
        for name, known in (("precision", PRECISIONS), ("protocol", PROTOCOLS), ("optimizer", OPTIMIZERS),
                            ("schedule", SCHEDULES)):  # fmt: skip
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)
        if not 0 <= self.smoothing < 1:
            raise UsageError(f"smoothing {self.smoothing} is outside [0, 1); choose a value such as 0.1")
        if (self.optimizer, self.precision) == ("muon", "float16"):
            raise UsageError("optimizer muon cannot scale gradients, as float16 needs; choose --amp bfloat16 or off")
        object.__setattr__(self, "recipe", canonical(self.recipe))
        if is_own(self.model):
            object.__setattr__(self, "model", one_name(self.model))
        check_model(self.model, self.dropout)
        side = PROTOCOLS[self.protocol].recipe(self.recipe).out_size
        if is_own(self.model) != (self.code != NO_CODE):
            raise UsageError(
                f"code {self.code!r} does not fit model {self.model}: one's own network has the hash of its source, as "
                f"fastcifar.runs.plan.headline_runs sets it, and other networks have {NO_CODE!r}"
            )
        if self.fine_tuned:
            check_tune(self.tune)
            return
        if (self.tune, self.weights) != ("full", "none"):
            cure = f", or take experiment {PRETRAINED}" if is_own(self.model) else ""
            raise UsageError(f"{self.model} is not pretrained; leave tune at 'full' and weights at 'none'{cure}")
        if side != IMAGE_SIZE and self.model in MODELS:
            raise UsageError(
                f"recipe {self.recipe!r} makes images of {side} x {side} pixels, but {self.model} takes "
                f"{IMAGE_SIZE} x {IMAGE_SIZE}; choose another recipe, as fastcifar list recipes shows them"
            )

    @property
    def fine_tuned(self) -> bool:
        """Whether the network gets a new last layer, and may start from weights: a published one, or one's own in the
        experiment with pretrained networks. Its runs train one after another.
        """
        return is_fine_tuned(self.model, self.experiment)

    @cached_property
    def label(self) -> str:
        """A readable name of the configuration, without the seed."""
        return label_of(vars(self))

    @cached_property
    def run_id(self) -> str:
        """The label, the seed and a hash of all fields. Equal specs have equal ids, also for lr 1 and lr 1.0."""
        return _run_id(self.label, self.seed, self._hashed)

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
        return _hashed(vars(self))


def spec_values(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a RunSpec, typed, from run.json's entry spec. Fields that it lacks have their default."""
    return {
        field.name: field.type(stated.get(field.name, field.default))  # type: ignore[operator]
        for field in fields(RunSpec)
    }


def is_fine_tuned(model: str, number: int) -> bool:
    """Return whether a model has a new last layer in an experiment: see `RunSpec.fine_tuned`."""
    return is_published(model) or (is_own(model) and number == PRETRAINED)


def label_of(values: Mapping[str, Any]) -> str:
    """Return a readable name of a configuration, without the seed. values: the fields of a RunSpec."""
    tune, model = values["tune"], values["model"]
    tuned = "" if tune == "full" else f"-{tune}"
    if is_fine_tuned(model, values["experiment"]) and values["weights"] == "none":
        tuned += "-scratch"
    tuned += "".join(f"-{values[name]}" for name, usual in (("optimizer", "adam"), ("schedule", "constant"))
                     if values[name] != usual)  # fmt: skip
    tuned += f"-smooth{values['smoothing']:g}" if values["smoothing"] else ""
    model, recipe = (name.replace(":", "-").replace("/", "-") for name in (model, values["recipe"]))
    return (
        f"{model}-{recipe}-b{values['batch_size']}-lr{values['lr']:g}-l2_{values['l2']:g}-d{values['dropout']:g}{tuned}"
        f"-{values['protocol']}"
    )


def run_id_of(values: Mapping[str, Any]) -> str:
    """Return the run-id of the typed fields of a RunSpec, which are not checked.

    This is ten times as fast as making a RunSpec.
    """
    return _run_id(label_of(values), values["seed"], _hashed(values))


def _run_id(label: str, seed: int, hashed: tuple[str, str]) -> str:
    before, after = hashed
    digest = hashlib.sha256(f"{before}{int(seed)}{after}".encode()).hexdigest()
    return f"{label}-s{seed}-{digest[:8]}"


def _hashed(of: Mapping[str, Any]) -> tuple[str, str]:
    """Return the text that the run id hashes, in two parts, before and after the seed.

    It is JSON of the typed fields, sorted by name.
    """
    values = {field.name: field.type(of[field.name]) for field in fields(RunSpec)}  # type: ignore[operator]
    for field in fields(RunSpec):
        if field.name in ADDED and values[field.name] == field.default:
            del values[field.name]
    before, _, after = json.dumps(values | {"seed": None}, sort_keys=True).partition('"seed": null')
    return f'{before}"seed": ', after
