"""Ensembles and Kaggle's CSV: probabilities by hand, ids in order, memory that does not grow, a file whole or not."""

import errno
import tracemalloc
from math import e

import numpy as np
import pytest
import torch
from fastcifar.kernels import reference
from support.builders import CIFAR10, class_folders, csv_of, kaggle, packed, png
from support.kept import kept, saying
from torch import nn

from fastcifar.augment import RECIPES, draw
from fastcifar.data.convert import convert
from fastcifar.data.dataset import Dataset
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.experiments import PROTOCOLS
from fastcifar.models import build
from fastcifar.predict.ensemble import SLAB, Slab, ensemble, rows_of
from fastcifar.predict.kaggle import kaggle_ids, write_submission
from fastcifar.predict.scores import Classification
from fastcifar.runs import trained
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.spec import RunSpec
from fastcifar.runs.trained import TrainedRun
from fastcifar.system.atomic import whole
from fastcifar.training.loop import train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def kaggles(tmp_path_factory):
    """Twelve training images, and test images of the ids 3, 10 and 200, which are in the archive in another order."""
    folder = tmp_path_factory.mktemp("kaggle")
    tree = kaggle(train=12, test=0)
    tree |= {f"test/{number}.png": png(number) for number in (200, 3, 10)}
    tree["sampleSubmission.csv"] = csv_of([(number, "cat") for number in (10, 200, 3)])
    return convert(str(packed(tree, "folder", folder / "files")), folder / "dataset")


def opened(*paths):
    return [TrainedRun.open(path) for path in paths]


# probabilities


def test_several_runs_are_the_mean_of_their_probabilities(synthetic, tmp_path):
    one = [0.70, 0.10, *[0.025] * 8]
    other = [0.20, 0.50, 0.16, *[0.02] * 7]
    runs = opened(kept(synthetic, tmp_path, saying(one)), kept(synthetic, tmp_path, saying(other), seed=1))
    for given, expected in (([runs[0]], one), ([runs[1]], other), (runs, [(a + b) / 2 for a, b in zip(one, other)])):  # noqa: B905
        found = ensemble(given, synthetic, "test")
        assert (found.shape, found.dtype) == ((20, 10), np.float32)
        assert found == pytest.approx(np.tile(expected, (20, 1)), rel=1e-6)


class Sides(nn.Module):
    """Logits: the red of the left half, of the right half, nothing."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(1, 10)

    def forward(self, images):
        red = images[:, 0].float()
        sides = torch.stack([red[:, :, :16].mean((1, 2)), red[:, :, 16:].mean((1, 2))], 1)
        return torch.cat([sides, torch.zeros(len(images), 8)], 1)


def test_flip_is_the_mean_with_the_mirrored_images(synthetic, tmp_path, monkeypatch):
    monkeypatch.setattr(trained, "build", lambda *_: Sides())
    images = np.zeros((20, 32, 32, 3), np.uint8)
    images[:, :, :16] = 255  # white to the left, black to the right: logits 1, 0, 0, ...
    monkeypatch.setattr(synthetic, "images", lambda part: images)
    runs = opened(kept(synthetic, tmp_path, Sides().state_dict()))
    plain = np.array([e, *[1] * 9]) / (e + 9)
    both = np.array([(e + 1) / 2, (e + 1) / 2, *[1] * 8]) / (e + 9)
    assert ensemble(runs, synthetic, "test") == pytest.approx(np.tile(plain, (20, 1)))
    assert ensemble(runs, synthetic, "test", tta="none") == pytest.approx(np.tile(plain, (20, 1)))
    assert ensemble(runs, synthetic, "test", tta="flip") == pytest.approx(np.tile(both, (20, 1)))


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
    assert ensemble(runs, synthetic, split, batch_size=7) == pytest.approx(expected, abs=1e-6)


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
    assert np.array_equal(ensemble([low], synthetic, "test", precision="float32"), exact)
    assert np.array_equal(ensemble([high], synthetic, "test", precision=precision), rounded)


def test_probabilities_that_are_no_numbers_are_an_error(synthetic, tmp_path):
    runs = opened(kept(synthetic, tmp_path, saying([0.1] * 10) | {"head.bias": torch.full((10,), float("nan"))}))
    with pytest.raises(FastcifarError, match="gives probabilities that are no numbers, in float32; try --amp off"):
        ensemble(runs, synthetic, "test")


def test_a_batch_that_does_not_fit_is_an_error_with_a_cure(synthetic, tmp_path, monkeypatch):
    class Greedy(Sides):
        def forward(self, images):
            raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(trained, "build", lambda *_: Greedy())
    runs = opened(kept(synthetic, tmp_path, Greedy().state_dict()))
    with pytest.raises(FastcifarError, match="8 images at once do not fit on cpu; choose a smaller --batch-size"):
        ensemble(runs, synthetic, "test", batch_size=8)


# rows


def test_splits_that_differ_by_run_take_no_ensemble(synthetic, tmp_path):
    sound, first, second = opened(
        kept(synthetic, tmp_path),
        kept(synthetic, tmp_path, protocol="as-run", seed=1),
        kept(synthetic, tmp_path, protocol="as-run", seed=2),
    )
    assert rows_of([second], synthetic, "validation").tolist() == synthetic.ids("validation", 2).tolist()
    assert rows_of([sound], synthetic, "validation").tolist() == synthetic.ids("validation").tolist()
    for split in ("validation", "training"):
        with pytest.raises(UsageError, match=rf"has the {split} images of the split of seed 1, .* those of the"):
            rows_of([first, second], synthetic, split)
        with pytest.raises(UsageError, match=r"of the dataset's own split, .* takes runs of one split"):
            rows_of([sound, second], synthetic, split)
    for split in ("test", "labelled"):
        assert len(rows_of([sound, first, second], synthetic, split)) == {"test": 20, "labelled": 100}[split]


def test_what_has_no_images_is_refused(tmp_path, synthetic):
    dataset = convert(str(packed(class_folders(), "folder", tmp_path / "folders")), tmp_path / "d")
    runs = opened(kept(synthetic, tmp_path))
    with pytest.raises(UsageError, match=r"d has no test images, as .*folders.* had none; try --split val"):
        rows_of(runs, dataset, "test")
    with pytest.raises(UsageError, match="unknown split 'garden'; there are training, validation, labelled, test"):
        rows_of(runs, dataset, "garden")
    with pytest.raises(UsageError, match="--tta 'spin' does not exist; there are none, flip"):
        ensemble(runs, synthetic, "test", tta="spin")


# memory


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
            found = ensemble(runs, dataset, "test", batch_size=16)
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


# the file


def test_the_submission_is_kaggle_s_to_the_byte(kaggles, tmp_path):
    ids = kaggle_ids(kaggles, "test", kaggles.ids("test"))
    assert ids.tolist() == [3, 10, 200]
    write_submission(tmp_path / "s.csv", ids, np.array([9, 0, 3]), kaggles.classes)
    assert (tmp_path / "s.csv").read_bytes() == b"id,label\n3,truck\n10,airplane\n200,cat\n"


def test_rows_are_in_the_order_of_ids(tmp_path):
    write_submission(tmp_path / "s.csv", np.array([30, 4, 100]), np.array([0, 1, 2]), ("a", "b,c", 'd"'))
    assert (tmp_path / "s.csv").read_text() == 'id,label\n4,"b,c"\n30,a\n100,"d"""\n'


def test_without_kaggle_s_ids_rows_count_from_one(synthetic, kaggles):
    assert kaggle_ids(synthetic, "test", synthetic.ids("test")).tolist() == list(range(1, 21))
    validation = kaggles.ids("validation")
    assert kaggle_ids(kaggles, "validation", validation).tolist() == (validation + 1).tolist()  # Kaggle's train ids


def test_each_image_gets_its_own_class_under_its_own_id(kaggles, tmp_path, monkeypatch):
    """By a network that reads the class off the pixels."""

    class Brightness(Sides):
        def forward(self, images):
            class_ = (images.float().mean((1, 2, 3)) * 1e6).long() % 10
            return nn.functional.one_hot(class_, 10).float()

    monkeypatch.setattr(trained, "build", lambda *_: Brightness())
    monkeypatch.setattr("fastcifar.predict.ensemble.SLAB", 2)
    runs = opened(kept(kaggles, tmp_path, Brightness().state_dict()))
    rows = rows_of(runs, kaggles, "test")
    labels = ensemble(runs, kaggles, "test", batch_size=1).argmax(1)
    write_submission(tmp_path / "s.csv", kaggle_ids(kaggles, "test", rows), labels, kaggles.classes)
    expected = []
    for row, number in enumerate((3, 10, 200)):
        still = RECIPES["basic"].still()
        pixels = torch.from_numpy(np.array(kaggles.images("test")[row : row + 1]))
        class_ = Brightness()(reference.apply(pixels, draw(still, 0, 0, [row]), still)).argmax()
        expected.append(f"{number},{CIFAR10[class_]}")
    assert (tmp_path / "s.csv").read_text().splitlines() == ["id,label", *expected]


def test_300_000_rows(tmp_path):
    ids, labels = np.arange(300_000, 0, -1), np.arange(300_000, 0, -1) % 10
    tracemalloc.start()
    try:
        write_submission(tmp_path / "s.csv", ids, labels, CIFAR10)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20  # the order is 2.4 MB; the text would be more
    finally:
        tracemalloc.stop()
    lines = (tmp_path / "s.csv").read_text().split("\n")
    assert lines[0] == "id,label"
    assert lines[1:-1] == [f"{number},{CIFAR10[number % 10]}" for number in range(1, 300_001)]
    assert lines[-1] == ""


@pytest.mark.parametrize("before", [None, "what was there"])
def test_an_interruption_leaves_what_was_there(tmp_path, before):
    class Interrupting(tuple):
        reads = 0

        def __getitem__(self, place):
            self.reads += 1
            if self.reads == 5_000:
                assert len(list(tmp_path.iterdir())) == 1 + (before is not None)  # it is being written elsewhere
                raise KeyboardInterrupt
            return super().__getitem__(place)

    path = tmp_path / "s.csv"
    if before is not None:
        path.write_text(before)
    with pytest.raises(KeyboardInterrupt):
        write_submission(path, np.arange(10_000), np.zeros(10_000, int), Interrupting(["a"]))
    assert [file.name for file in tmp_path.iterdir()] == ([] if before is None else ["s.csv"])
    assert before is None or path.read_text() == before
    write_submission(path, np.arange(2), np.zeros(2, int), ("a",))
    assert path.read_text() == "id,label\n0,a\n1,a\n"
    assert [file.name for file in tmp_path.iterdir()] == ["s.csv"]


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path):
    def fill():
        with whole(tmp_path / "s.csv") as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(FastcifarError, match=r"disk full while writing .*s\.csv"):
        fill()
    assert not list(tmp_path.iterdir())


def test_the_dataset_is_only_read(kaggles, tmp_path):
    before = Dataset.open(kaggles.path).sha256
    ensemble(opened(kept(kaggles, tmp_path)), kaggles, "test")
    assert Dataset.open(kaggles.path).sha256 == before
