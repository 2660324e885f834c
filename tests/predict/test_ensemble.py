"""Ensembles: probabilities by hand, rows by split, and memory that does not grow."""

import tracemalloc
from math import e

import numpy as np
import pytest
import torch
from fastcifar.kernels import reference
from support.builders import class_folders, packed
from support.kept import kept, saying
from support.layouts import cifar10_1
from support.predictions import Sides, opened

from fastcifar.augment import draw
from fastcifar.data.convert import convert
from fastcifar.data.dataset import Dataset
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.experiments import PROTOCOLS
from fastcifar.models.build import build
from fastcifar.predict.ensemble import SLAB, PredictOptions, Slab, ensemble, rows_of
from fastcifar.predict.scores import Classification
from fastcifar.recipes import RECIPES
from fastcifar.runs import trained
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.spec import RunSpec
from fastcifar.training.loop import train

CPU = torch.device("cpu")


def test_several_runs_are_the_mean_of_their_probabilities(synthetic, tmp_path):
    one = [0.70, 0.10, *[0.025] * 8]
    other = [0.20, 0.50, 0.16, *[0.02] * 7]
    runs = opened(kept(synthetic, tmp_path, saying(one)), kept(synthetic, tmp_path, saying(other), seed=1))
    for given, expected in (([runs[0]], one), ([runs[1]], other), (runs, [(a + b) / 2 for a, b in zip(one, other)])):  # noqa: B905
        found = ensemble(given, synthetic, "test")
        assert (found.shape, found.dtype) == ((20, 10), np.float32)
        assert found == pytest.approx(np.tile(expected, (20, 1)), rel=1e-6)


def test_flip_is_the_mean_with_the_mirrored_images(synthetic, tmp_path, monkeypatch):
    monkeypatch.setattr(trained, "build", lambda *_: Sides())
    images = np.zeros((20, 32, 32, 3), np.uint8)
    images[:, :, :16] = 255  # white to the left, black to the right: logits 1, 0, 0, ...
    monkeypatch.setattr(synthetic, "images", lambda part: images)
    runs = opened(kept(synthetic, tmp_path, Sides().state_dict()))
    plain = np.array([e, *[1] * 9]) / (e + 9)
    both = np.array([(e + 1) / 2, (e + 1) / 2, *[1] * 8]) / (e + 9)
    assert ensemble(runs, synthetic, "test") == pytest.approx(np.tile(plain, (20, 1)))
    assert ensemble(runs, synthetic, "test", PredictOptions(tta="none")) == pytest.approx(np.tile(plain, (20, 1)))
    assert ensemble(runs, synthetic, "test", PredictOptions(tta="flip")) == pytest.approx(np.tile(both, (20, 1)))


@pytest.mark.parametrize("split", ["test", "validation", "training", "labelled"])
def test_each_run_sees_the_reference_s_pixels_without_any_draw(synthetic, tmp_path, split):
    """Two runs of different models and recipes, against their networks on pixels of the definition."""
    runs = opened(
        kept(synthetic, tmp_path, recipe="erasing"),
        kept(synthetic, tmp_path, model="mlp_s", recipe="none", dropout=0.1),
    )
    rows = synthetic.ids(split)
    still = RECIPES["erasing"].still()
    pixels = torch.from_numpy(np.array(synthetic.images(synthetic.part(split))[rows]))
    images = reference.apply(pixels, draw(still, 0, 0, rows), still)
    with torch.inference_mode():
        said = [build(m, 10, 0.0, 0).eval()(images).double().softmax(1) for m in ("cnn", "mlp_s")]
    expected = ((said[0] + said[1]) / 2).numpy()
    assert ensemble(runs, synthetic, split, PredictOptions(batch_size=7)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("protocol", "recipe"), [("sound", "basic"), ("as-run", "none")])
def test_a_trained_run_is_as_good_as_its_summary_says(digits, tmp_path, protocol, recipe):
    """On the validation images of its own split; as-run without augmentation has clean ones, too."""
    spec = RunSpec(
        experiment=2, protocol=protocol, model="cnn", batch_size=128, lr=3e-3, l2=0.0, dropout=0.0, recipe=recipe,
        seed=1, dataset=digits.sha256, epochs=2, precision="float32",
    )  # fmt: skip
    summary = train(spec, digits, tmp_path, CPU)
    runs = opened(RunDirectory.of(spec, tmp_path).path)
    rows = rows_of(runs, digits, "validation")
    own = spec.seed if PROTOCOLS[protocol].split_by_seed else None
    assert rows.tolist() == digits.ids("validation", own).tolist()
    result = Classification.of(ensemble(runs, digits, "validation"), digits.labels("train")[rows], digits.classes)
    assert result.accuracy == summary["val_accuracy"]
    if protocol == "sound":  # the other's loss is the mean of its batches' means
        assert result.nll == pytest.approx(summary["val_loss"], rel=1e-5)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_precision_is_the_run_s_or_another(synthetic, tmp_path, precision):
    low, high = opened(kept(synthetic, tmp_path, precision=precision), kept(synthetic, tmp_path))
    exact = ensemble([high], synthetic, "test")
    rounded = ensemble([low], synthetic, "test")
    assert 0 < np.abs(rounded - exact).max() < 1e-2
    assert np.array_equal(ensemble([low], synthetic, "test", PredictOptions(precision="float32")), exact)
    assert np.array_equal(ensemble([high], synthetic, "test", PredictOptions(precision=precision)), rounded)


def test_probabilities_that_are_no_numbers_are_an_error(synthetic, tmp_path):
    runs = opened(kept(synthetic, tmp_path, saying([0.1] * 10) | {"head.bias": torch.full((10,), float("nan"))}))
    with pytest.raises(FastcifarError, match="gives probabilities that are not finite, in float32; try --amp off"):
        ensemble(runs, synthetic, "test")


def test_a_batch_that_does_not_fit_is_an_error_with_a_cure(synthetic, tmp_path, monkeypatch):
    class Greedy(Sides):
        def forward(self, images):
            raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(trained, "build", lambda *_: Greedy())
    runs = opened(kept(synthetic, tmp_path, Greedy().state_dict()))
    with pytest.raises(FastcifarError, match="8 images at once do not fit on cpu; choose a smaller --batch-size"):
        ensemble(runs, synthetic, "test", PredictOptions(batch_size=8))


def test_splits_that_differ_by_run_take_no_ensemble(synthetic, tmp_path):
    sound, first, second = opened(
        kept(synthetic, tmp_path),
        kept(synthetic, tmp_path, protocol="as-run", seed=1),
        kept(synthetic, tmp_path, protocol="as-run", seed=2),
    )
    for name, split in (("validation", "validation"), ("val", "validation"), ("train", "training")):
        assert rows_of([second], synthetic, name).tolist() == synthetic.ids(split, 2).tolist()
    assert rows_of([sound], synthetic, "validation").tolist() == synthetic.ids("validation").tolist()
    for split in ("validation", "training"):
        with pytest.raises(UsageError, match=rf"has the {split} images of the split of seed 1, .* has those of the"):
            rows_of([first, second], synthetic, split)
        with pytest.raises(UsageError, match=r"of the dataset's own split, .* choose runs of one split"):
            rows_of([sound, second], synthetic, split)
    for split in ("test", "labelled"):
        assert len(rows_of([sound, first, second], synthetic, split)) == {"test": 20, "labelled": 100}[split]


def test_what_has_no_images_is_refused(tmp_path, synthetic):
    dataset = convert(str(packed(class_folders(), "folder", tmp_path / "folders")), tmp_path / "d")
    runs = opened(kept(synthetic, tmp_path))
    with pytest.raises(UsageError, match=r"d has no test images, as .*folders.* had none; try --split val"):
        rows_of(runs, dataset, "test")
    shifted = convert(str(packed(cifar10_1("v6"), "folder", tmp_path / "shifted")), tmp_path / "s")
    assert rows_of(runs, shifted, "test").tolist() == list(range(20))
    for split in ("val", "train", "labelled"):
        with pytest.raises(UsageError, match=r"s has no .* images, as CIFAR-10\.1 v6 .* had none; try --split test"):
            rows_of(runs, shifted, split)
    with pytest.raises(UsageError, match="split 'garden' does not exist; there are training, validation"):
        rows_of(runs, dataset, "garden")
    with pytest.raises(UsageError, match="--tta 'spin' does not exist; there are none, flip"):
        ensemble(runs, synthetic, "test", PredictOptions(tta="spin"))


def test_memory_does_not_grow_with_the_images(tmp_path, monkeypatch):
    """2,000 test images of 3 KiB, with slabs of 128; with one slab, for comparison, all 6 MB are in memory, twice."""
    dataset = convert("synthetic:10000", tmp_path / "d")
    monkeypatch.setattr(trained, "build", lambda *_: Sides())  # a network that takes no memory
    tensors = Sides().state_dict()
    runs = opened(kept(dataset, tmp_path, tensors), kept(dataset, tmp_path, tensors, seed=1))
    slabs = []

    class Seen(Slab):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            slabs.append(self._images.nbytes)

    monkeypatch.setattr("fastcifar.predict.ensemble.Slab", Seen)

    def measured(slab):
        monkeypatch.setattr("fastcifar.predict.ensemble.SLAB", slab)
        slabs.clear()
        tracemalloc.start()
        try:
            found = ensemble(runs, dataset, "test", PredictOptions(batch_size=16))
            return found, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    measured(128)  # what is compiled or imported once is no matter here
    found, peak = measured(128)
    assert set(slabs) == {128 * 3072, 80 * 3072}
    assert len(slabs) == 2 * 16
    assert peak < 3 << 20
    whole_set, whole_peak = measured(SLAB)
    assert slabs == [2000 * 3072] * 2
    assert whole_peak > 2 * 2000 * 3072
    assert np.array_equal(found, whole_set)


def test_a_slab_is_its_rows(synthetic):
    rows = np.array([5, 2, 19])
    slab = Slab(synthetic, "test", rows)
    assert np.array_equal(slab.images("test"), synthetic.images("test")[rows])
    assert slab.ids("test").tolist() == [0, 1, 2]
    assert slab.labels("test") is None


def test_the_dataset_is_only_read(kaggles, tmp_path):
    before = Dataset.open(kaggles.path).sha256
    ensemble(opened(kept(kaggles, tmp_path)), kaggles, "test")
    assert Dataset.open(kaggles.path).sha256 == before
