"""Every pipeline of ours keeps the contract (`fastcifar.testing`), and other people's pipelines are found."""

import json
import sys
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch
from fastcifar.kernels import reference
from support.own import write as write
from support.pipelines import OWN, install

from fastcifar.augment import Augment, draw
from fastcifar.data.dataset import Dataset
from fastcifar.errors import UsageError
from fastcifar.loader import Loader
from fastcifar.pipeline import Batch, Pipeline, Request, available, find_pipeline, open_pipeline, pipeline_names
from fastcifar.recipes import RECIPES
from fastcifar.runs.plan import headline_runs
from fastcifar.testing import CLAUSES, check_pipeline, lifetime

OUR_KERNEL = ("resident", "ffcv")  # equal to the reference bit by bit
ready = [name for name, missing in available().items() if missing is None]
every_pipeline = pytest.mark.parametrize("name", ready)
pytestmark = pytest.mark.whole  # each test opens every pipeline


def collected(pipeline: Pipeline, k: int) -> list[Batch]:
    return list(pipeline.epoch(k))


def refusal(name: str, dataset: Dataset, recipe: str) -> str | None:
    """Why a pipeline cannot do a recipe, or None."""
    file, _, form = name.partition(":")
    pipeline = import_module(f"fastcifar.pipelines.{file}").PIPELINE
    return pipeline.refuses(Request(dataset, augment=RECIPES[recipe]), form)


@pytest.mark.slow
@every_pipeline
def test_every_pipeline_keeps_the_contract(name, synthetic, monkeypatch):
    if ":" in name:  # a form shares the reader of its pipeline, so a fifth of the epochs must do to see a leak
        monkeypatch.setattr(lifetime, "LEFT_EARLY", 5)
        monkeypatch.setattr(lifetime, "PIPELINES", 2)
    report = check_pipeline(name, synthetic, ("none", "imagenet256", "airbench96", "erasing"))
    assert set(report.checked) >= CLAUSES.keys() - {"an error of a worker reaches the caller"}


@pytest.mark.parametrize("name", [name for name in OUR_KERNEL if name in ready])
@pytest.mark.parametrize("dtype", reference.OUT_DTYPES)
@pytest.mark.parametrize("recipe", ["none", "erasing", "imagenet256", "airbench96"])
def test_our_kernel_gives_the_bits_of_the_reference(name, dtype, recipe, synthetic):
    spec = RECIPES[recipe]
    with open_pipeline(name, synthetic, augment=spec, batch_size=32, seed=9, dtype=dtype) as pipeline:
        for batch in pipeline.epoch(2):
            rows = batch.ids.numpy()
            source = torch.from_numpy(np.array(synthetic.images("train")[rows]))
            assert torch.equal(batch.images, reference.apply(source, draw(spec, 9, 2, rows), spec, dtype))


@every_pipeline
def test_closed_pipelines_say_so(name, synthetic):
    pipeline = open_pipeline(name, synthetic)
    pipeline.close()
    pipeline.close()
    with pytest.raises(UsageError, match="closed"):
        next(iter(pipeline.epoch(0)))


@pytest.mark.parametrize("recipe", RECIPES)
def test_nothing_is_refused_by_the_plain_pipelines(recipe, synthetic):
    for name in ("resident", "torchvision", "ffcv"):
        assert name not in ready or refusal(name, synthetic, recipe) is None


def test_every_file_is_a_pipeline_and_the_unready_say_why():
    assert "resident" in ready
    assert pipeline_names() == sorted(available())
    assert all(reason for reason in available().values() if reason is not None)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"batch_size": 0}, "batch size 0"),
        ({"dtype": torch.float64}, "float64"),
        ({"seed": -1}, "seed -1"),
        ({"split": "everything"}, "everything"),
    ],
)
def test_requests_that_cannot_be_met(wrong, named, synthetic):
    with pytest.raises(UsageError, match=named):
        open_pipeline("resident", synthetic, **wrong)


def test_unknown_pipelines_are_refused_with_the_known(synthetic):
    with pytest.raises(UsageError, match=r"'tfdata'.*resident"):
        open_pipeline("tfdata", synthetic)


def test_order_depends_on_the_id_alone(synthetic):
    """Leaving the validation images out does not change the order of the others."""
    everyone = Request(synthetic, "labelled", seed=3, shuffle=True).order(1).tolist()
    training = Request(synthetic, "training", seed=3).order(1).tolist()
    assert training == [row for row in everyone if row in set(training)]


def test_still_keeps_the_preprocessing_only():
    spec = replace(RECIPES["imagenet256"], flip=0.5, erase=0.5)
    assert spec.still() == RECIPES["imagenet256"]
    assert RECIPES["erasing"].still() == Augment()
    assert not spec.still().random
    assert spec.random


def test_dataset_without_test_part(tmp_path, synthetic):
    images_only = Dataset(synthetic.path, {**synthetic.manifest, "counts": {"train": 100}})
    with pytest.raises(UsageError, match="no test images"):
        open_pipeline("resident", images_only, split="test")


@pytest.fixture
def own(write, monkeypatch):
    """Return a function that writes a module of the current directory. It and sys.path are as before afterwards."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    return write


def test_a_pipeline_of_ones_own_by_module_and_by_class(own, synthetic, monkeypatch):
    file = own("pack.plain", OWN)
    with open_pipeline("resident", synthetic, augment=RECIPES["basic"], batch_size=16) as ours:
        expected = collected(ours, 1)
    for name in ("pack.plain", "pack.plain:slow", find_pipeline("pack.plain")[0]):
        with open_pipeline(name, synthetic, augment=RECIPES["basic"], batch_size=16) as pipeline:
            for batch, want in zip(collected(pipeline, 1), expected, strict=True):
                assert torch.equal(batch.images, want.images)
        loader = Loader(synthetic, augment="basic", batch_size=16, pipeline=name, device="cpu")
        with loader:
            assert torch.equal(next(iter(loader))[1], open_labels(synthetic))
    assert pipeline.form == ""
    assert "pack.plain" not in pipeline_names()
    assert {spec.pipeline for spec in headline_runs(2, synthetic, pipeline="pack.plain")} == {"pack.plain"}
    monkeypatch.chdir(file.parent)
    open_pipeline("plain.py:slow", synthetic).close()


def open_labels(dataset: Dataset) -> torch.Tensor:
    with open_pipeline("resident", dataset, batch_size=16) as ours:
        return next(iter(ours.epoch(0))).labels


def test_a_pipeline_of_an_installed_package(own, synthetic, tmp_path, command):
    own("brought", OWN)
    install(tmp_path, "stranger", "brought = brought:Plain", "gone = brought:Missing")
    sys.path.insert(0, str(tmp_path))
    assert {"brought", "brought:slow", "gone", "resident"} <= set(pipeline_names())
    assert available()["brought:slow"] is None
    with open_pipeline("brought:slow", synthetic, batch_size=16) as pipeline:
        assert type(pipeline).__name__ == "Plain"
        assert pipeline.form == "slow"
    reason = r"package stranger declares it as brought:Missing, whose import raises AttributeError"
    with pytest.raises(UsageError, match=reason):
        open_pipeline("gone", synthetic)
    rows = {row["pipeline"]: row for row in json.loads(command("list", "pipelines", "--json").out)["pipelines"]}
    assert rows["brought"]["ready"]
    assert not rows["gone"]["ready"]


def test_a_name_that_two_have_is_refused(own, synthetic, tmp_path):
    own("brought", OWN)
    install(tmp_path, "stranger", "resident = brought:Plain")
    sys.path.insert(0, str(tmp_path))
    with pytest.raises(UsageError, match=r"fastcifar and package stranger both have .*write brought for the one of"):
        open_pipeline("resident", synthetic)
    assert "uninstall" in str(available()["resident"])
    open_pipeline("brought", synthetic).close()


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("mien", OWN, r"pipeline 'mien' does not exist; .*resident.* and package.module for your own"),
        ("mien.py", OWN, r"there is no file mien.py; did you mean 'mine.py'"),
        ("mine-own", OWN, r"'mine-own' does not exist"),
        ("mine:form", OWN, r"pipeline 'mine:form' does not exist; .*mine:slow"),
        ("mine", "x = 1", r"the module has no PIPELINE; add the line PIPELINE = YourClass"),
        ("mine", OWN.replace("PIPELINE =", "pipe ="), r"no PIPELINE; add the line PIPELINE = Plain"),
        ("mine", "PIPELINE = 3", r"its PIPELINE is 3, no class of pipelines; derive one from fastcifar.Pipeline"),
        ("mine", OWN.replace("def close", "def end"), r"is Plain, which lacks close; define them"),
        ("mine", "import missing_library", r"mine imports missing_library, which is not installed"),
        ("mine", "\nraise ValueError('no disk')", r"the import of mine raises ValueError: no disk, mine.py line 2"),
        ("mine", "def", r"the import of mine raises SyntaxError"),
        ("", OWN, r"pipeline '' does not exist"),
    ],
)
def test_pipelines_of_ones_own_that_cannot_be_used(name, source, message, own, synthetic):
    own("mine", source)
    with pytest.raises(UsageError, match=message):
        open_pipeline(name, synthetic)


def test_arguments_that_are_no_pipeline(own, synthetic):
    own("mine", OWN)
    with pytest.raises(UsageError, match=r"the pipeline is 3, no class of pipelines"):
        Loader(synthetic, pipeline=3)
    with pytest.raises(UsageError, match=r"pipeline mine takes no number of workers; leave workers=2 out"):
        open_pipeline("mine", synthetic, workers=2)


def test_a_pipeline_takes_strings_as_well_as_objects(synthetic):
    asked = {"batch_size": 16, "seed": 3}
    with (
        open_pipeline("resident", synthetic.path, augment="basic", device="cpu", dtype="float16", **asked) as words,
        open_pipeline("resident", synthetic, augment=RECIPES["basic"], dtype=torch.float16, **asked) as objects,
    ):
        for one, other in zip(words.epoch(0), objects.epoch(0), strict=True):
            assert torch.equal(one.images, other.images)
    for wrong, message in (
        ({"augment": "bassic"}, "did you mean 'basic'"),
        ({"dtype": "float61"}, "did you mean 'float16'"),
        ({"device": "gpu"}, "device 'gpu' is not one of"),
    ):
        with pytest.raises(UsageError, match=message):
            open_pipeline("resident", synthetic, **wrong)
