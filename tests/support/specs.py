"""A spec of a CNN, and one of a pretrained network."""

from dataclasses import replace

from fastcifar.runs.spec import RunSpec

SPEC = RunSpec(
    experiment=2,
    protocol="sound",
    model="cnn",
    batch_size=128,
    lr=1e-3,
    l2=0.0,
    dropout=0.5,
    recipe="basic",
    seed=0,
    dataset="0123456789abcdef" * 4,
)


PRETRAINED = replace(SPEC, experiment=4, model="resnet18", recipe="imagenet256", dropout=0.0)
