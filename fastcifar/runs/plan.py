"""The runs for given options: the specs of an experiment's headline configuration, their weights and precision."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastcifar.data.dataset import Dataset
from fastcifar.errors import UsageError
from fastcifar.experiments import PRETRAINED, PROTOCOLS, SEEDS, experiment
from fastcifar.models.names import NONE, TIMM, is_own, is_pretrained, require_own
from fastcifar.pipeline.names import check_pipeline
from fastcifar.runs.spec import RunSpec
from fastcifar.system import machine
from fastcifar.system.paths import path_of

if TYPE_CHECKING:
    import torch

    from fastcifar.models.published import Weights

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
    later: dict[str, Any] = {}  # values that are known only after an import of torch
    if model is not None and number == PRETRAINED and is_pretrained(model):
        later = {} if "recipe" in settings else {"recipe": "imagenet"}
    elif model is not None and is_own(model):
        require_own(model)
        if number == PRETRAINED:
            require_recipe(model, settings)
        settings, later = {"dropout": 0.0, **settings}, {"code": "not yet read"}
    elif model not in (None, *declared.models):
        raise UsageError(
            f"experiment {number} under protocol {protocol} has no model {model!r}; "
            f"there are {', '.join(declared.models)}, and package.module:factory for your own"
        )
    fields = declared.configuration(**settings, **later)
    fields = {"precision": "float32", "pipeline": "resident", "weights": NONE, **fields}
    check_pipeline(fields["pipeline"])
    # everything that can be refused is refused here, before the imports below
    specs = [
        RunSpec(experiment=number, protocol=protocol, seed=seed, dataset=dataset.sha256, **fields) for seed in seeds
    ]
    if "recipe" in later:
        from fastcifar.models.pretrained import preprocessing

        later["recipe"] = preprocessing(str(model)).recipe
    if "code" in later:
        from fastcifar.models.own import code_of
        from fastcifar.models.own_check import check_own

        later["code"] = code_of(str(model))
        side = PROTOCOLS[protocol].recipe(fields["recipe"]).out_size
        check_own(str(model), len(dataset.classes), side, number == PRETRAINED)
    return [replace(spec, **later) for spec in specs]


def require_recipe(model: str, settings: Collection[str]) -> None:
    """Raise UsageError where settings of experiment 4 do not name the recipe of one's own network.

    Only its author knows which images its weights were trained on, so no recipe is guessed.
    """
    if "recipe" not in settings:
        raise UsageError(
            f"{model} does not say which images its weights want; name their recipe, for example "
            "recipe=imagenet224-224 (enlarged to 224 x 224, ImageNet's mean and standard deviation) or half224-224 "
            "(mean and standard deviation 0.5), with --set or as --recipe"
        )


def check_weights(number: int, model: str | None, asked: str | None) -> None:
    """Raise UsageError where the networks of the experiment train from scratch, the model is not pretrained, or there
    is no file of the weights. asked: the argument of `published.weights_of`.
    """
    if number != PRETRAINED:
        if asked not in (None, NONE):
            raise UsageError(f"--weights {asked}: experiment {number} trains from scratch; --exp {PRETRAINED} does not")
        return
    if model is not None and is_own(model):
        if asked is None:
            raise UsageError(f"{model} has no published weights; give their file with --weights, or --weights none")
    elif model is not None and not is_pretrained(model):
        raise UsageError(
            f"model {model!r} is neither one of torchvision's classification networks nor {TIMM}NAME, nor your own as "
            "package.module:factory"
        )
    if asked not in (None, NONE) and not path_of(str(asked)).is_file():
        raise UsageError(f"weights {asked}: there is no such file; give a .pth or .safetensors file, or none")


def weights_for(number: int, model: str | None, asked: str | None) -> "Weights":
    """Return the initial weights of an experiment's networks.

    asked: the argument of `published.weights_of`. Raises the errors of `check_weights` and of `published.weights_of`.
    """
    from fastcifar.models.published import Weights, weights_of

    check_weights(number, model, asked)
    if number != PRETRAINED:
        return Weights(NONE, {})
    return weights_of(model or experiment(number, "sound").headline["model"], asked)


def check_amp(amp: str) -> None:
    """Raise UsageError for a text that --amp does not take."""
    if amp not in AMP:
        raise UsageError(f"--amp {amp!r} is not one of {', '.join(AMP)}; choose one of them")


def precision_of(amp: str, device: "torch.device", number: int | None = None) -> str:
    """Return the precision of --amp on a device. number: the experiment.

    auto means bfloat16 where the hardware multiplies it, else float32 on a CPU and float16 on a GPU. For pretrained
    networks on a CPU auto means float32: in bfloat16 MobileNetV3-S took 1.9 times as long
    (bench/results/finetuning-cpu.jsonl). Raises UsageError for an unknown name.
    """
    check_amp(amp)
    if amp != "auto":
        return "float32" if amp == "off" else amp
    if device.type == "cuda":
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    if number == PRETRAINED:
        return "float32"
    return "bfloat16" if machine.cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"} else "float32"
