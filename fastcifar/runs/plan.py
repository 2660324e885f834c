"""The runs for given options: the specs of an experiment's headline configuration, their weights and precision."""

from collections.abc import Iterable
from typing import Any

import torch

from fastcifar.data.dataset import Dataset
from fastcifar.errors import UsageError
from fastcifar.experiments import PROTOCOLS, SEEDS, experiment
from fastcifar.models.own import check_own, code_of, is_own
from fastcifar.models.pretrained import TIMM, is_pretrained, preprocessing
from fastcifar.models.published import NONE, Weights, weights_of
from fastcifar.pipeline import find_pipeline
from fastcifar.runs.spec import RunSpec
from fastcifar.system import machine

PRETRAINED = 4  # the experiment with pretrained networks
AMP = ("auto", "off", "bfloat16", "float16")


def headline_runs(
    number: int, dataset: Dataset, protocol: str = "sound", seeds: Iterable[int] = SEEDS, **settings: Any
) -> list[RunSpec]:
    """Return the specs of an experiment's headline configuration, one for each seed.

    settings: fields of RunSpec that replace values of the configuration; None keeps the configuration's value. By
    default precision is float32, pipeline is resident and weights is none. Raises UsageError for an unknown name, or a
    value out of range.
    """
    settings = {name: value for name, value in settings.items() if value is not None}
    declared, model = experiment(number, protocol), settings.get("model")
    if model is not None and number == PRETRAINED and is_pretrained(model):
        settings = {"recipe": preprocessing(model).recipe, **settings}
    elif model is not None and is_own(model):
        settings = {"dropout": 0.0, **settings, "code": own_code(number, model)}
    elif model not in (None, *declared.models):
        raise UsageError(
            f"experiment {number} under protocol {protocol} has no model {model!r}; "
            f"there are {', '.join(declared.models)}, and package.module:factory for your own"
        )
    fields = {"precision": "float32", "pipeline": "resident", "weights": NONE} | declared.configuration(**settings)
    find_pipeline(fields["pipeline"])
    if is_own(fields["model"]):
        check_own(fields["model"], len(dataset.classes), PROTOCOLS[protocol].recipe(fields["recipe"]).out_size)
    return [
        RunSpec(experiment=number, protocol=protocol, seed=seed, dataset=dataset.sha256, **fields) for seed in seeds
    ]


def own_code(number: int, model: str) -> str:
    """Return the hash of the source of one's own network, for a run of an experiment.

    Raises UsageError where it cannot be imported, or where the experiment is for pretrained networks.
    """
    if number == PRETRAINED:
        raise UsageError(f"experiment {number} fine-tunes published networks; train {model} with --exp 2")
    return code_of(model)


def weights_for(number: int, model: str | None, asked: str | None) -> Weights:
    """Return the initial weights of an experiment's networks.

    asked: the argument of `published.weights_of`. Raises the errors of `published.weights_of`, and UsageError where the
    networks of the experiment train from scratch, or the model is not pretrained.
    """
    if number != PRETRAINED:
        if asked not in (None, NONE):
            raise UsageError(f"--weights {asked}: experiment {number} trains from scratch; --exp {PRETRAINED} does not")
        return Weights(NONE, {})
    name = model or experiment(number, "sound").headline["model"]
    if not is_pretrained(name):
        raise UsageError(f"model {name!r} is neither one of torchvision's classification networks nor {TIMM}NAME")
    return weights_of(name, asked)


def precision_of(amp: str, device: torch.device, number: int | None = None) -> str:
    """Return the precision of --amp on a device. number: the experiment.

    auto means bfloat16 where the hardware multiplies it, else float32 on a CPU and float16 on a GPU. For pretrained
    networks on a CPU auto means float32: in bfloat16 MobileNetV3-S took 1.9 times as long
    (bench/results/finetuning-cpu.jsonl). Raises UsageError for an unknown name.
    """
    if amp not in AMP:
        raise UsageError(f"--amp {amp!r} is not one of {', '.join(AMP)}")
    if amp != "auto":
        return "float32" if amp == "off" else amp
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    if number == PRETRAINED:
        return "float32"
    return "bfloat16" if machine.cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"} else "float32"
