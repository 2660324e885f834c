"""Runs on the dataset's own test images: what they judge, and validation beside test accuracy."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from support.written_runs import CONTEXT, spec_of, write_run

from fastcifar.cli.app import main
from fastcifar.data.dataset import Dataset
from fastcifar.report.build import build_report
from fastcifar.report.claims import CLAIMS, claims_on_test, verdicts
from fastcifar.report.collection import collect, with_predictions
from fastcifar.report.evidence import MEAN, STD, unlike_test_images
from fastcifar.report.tested import beside
from fastcifar.report.verdict import CONFIRMED, CONTRADICTED, NOT_RUN, UNDECIDED

LEVEL = [0.1 + n / 100 for n in range(27)] + [0.3] * 5  # it stops after epoch 32
IMAGES = 400
KAGGLE = ("kaggle-1", "kaggle-2", "kaggle-3", "kaggle-4")


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """Leave out the figures, which take most of the time of a report."""
    monkeypatch.setattr("fastcifar.report.build.FIGURES", ())


def rightly(count, images=IMAGES):
    return np.arange(images) < count


def runs_of(out, counts, images=IMAGES, validation=None, **chosen):
    """Write runs of the seeds 0, 1, ..., whose weights predict so many test images correctly, the same ones if they are
    as many."""
    for seed, count in enumerate(counts):
        right = rightly(count if validation is None else validation[seed], images)
        write_run(out, spec_of(seed=seed, **chosen), LEVEL, right=right, test=rightly(count, images))


def read(out, images=IMAGES):
    return with_predictions(collect(out), labelled(np.arange(images) % 10))


def labelled(labels, sha256=CONTEXT["dataset"]["sha256"]):
    """Return a stand-in for a dataset whose test images have these labels."""
    return SimpleNamespace(path="data", sha256=sha256, labels={"test": labels}.get)


def cifar_like(mean=MEAN, sha256=CONTEXT["dataset"]["sha256"]):
    """Return a dataset whose IMAGES test images have CIFAR-10's standard deviation and this mean."""
    sides = np.where(np.indices((32, 32)).sum(0) % 2, -1.0, 1.0)[..., None] * STD + mean
    images = np.broadcast_to(np.round(255 * sides).astype(np.uint8), (IMAGES, 32, 32, 3))
    labels = np.arange(IMAGES) % 10
    made = Dataset.from_arrays(images[:20], labels[:20], 10, test=(images, labels))
    made.sha256 = sha256
    return made


@pytest.mark.parametrize(
    ("counts", "images", "verdict", "says"),
    [
        ([7252, 7260, 7244], 10_000, CONFIRMED, "72.52 % ± "),
        ([6500, 6510, 6490], 10_000, CONTRADICTED, "65.00 % ± "),
        ([7050, 7060, 7040], 10_000, UNDECIDED, "more seeds alone will not decide it, but more images may"),
        ([290, 290, 290], 400, UNDECIDED, "; 400 images, not Kaggle's)"),  # the seeds agree, the images are too few
        ([7252], 10_000, UNDECIDED, "(one seed; 10,000 images, not Kaggle's)"),
    ],
)
def test_a_score_is_judged_over_seeds_and_images(tmp_path, counts, images, verdict, says):
    runs_of(tmp_path, counts, images, recipe="basic", dropout=0.5)
    judged = {claim.id: by["sound"] for claim, by in verdicts(read(tmp_path, images), ["sound"], claims_on_test())}
    assert judged["kaggle-2"].verdict == verdict
    assert says in judged["kaggle-2"].measured
    assert len(judged["kaggle-2"].runs) == len(counts)
    assert judged["kaggle-1"].verdict == NOT_RUN
    assert "predicts the test images of experiment 1, model mlp_s" in judged["kaggle-1"].measured


def test_without_being_asked_nothing_is_judged_on_test_images(tmp_path):
    runs_of(tmp_path, [290, 290, 290], recipe="basic", dropout=0.5)
    assert all(not each.tests for each in collect(tmp_path).configurations), "their files are not even read"
    judged = verdicts(collect(tmp_path), ["sound"])
    assert {claim.id for claim, by in judged if "not public" in by["sound"].measured} == set(KAGGLE)
    made = build_report(tmp_path, tmp_path / "report", cifar_like())
    assert made.tested is None
    for name in ("index.html", "report.md"):
        assert "own test images" not in (tmp_path / "report" / name).read_text()


def test_other_claims_stay_as_they_are():
    on_test = claims_on_test()
    assert [claim.id for claim, other in zip(CLAIMS, on_test, strict=True) if claim != other] == list(KAGGLE)
    assert all("the dataset's own test images, not Kaggle's." in each.said for each in on_test if each.id in KAGGLE)


def test_images_unlike_cifar_10s_judge_nothing(tmp_path):
    assert unlike_test_images(cifar_like()) is None
    other = cifar_like(mean=(0.2, 0.2, 0.2))
    assert "not within 0.01 of those of CIFAR-10's" in unlike_test_images(other)
    runs_of(tmp_path, [290] * 3, recipe="basic", dropout=0.5)
    made = build_report(tmp_path, tmp_path / "report", other, test=True)
    assert {claim["verdict"] for claim in made.tested["claims"]} == {NOT_RUN}
    assert all("judge nothing: their mean" in claim["measured"] for claim in made.tested["claims"])
    assert "They judge no claim" in made.contents.said[-2]
    assert made.tested["configurations"], "the accuracies are shown"


def test_validation_stands_beside_test(tmp_path):
    runs_of(tmp_path, [280, 288, 296], validation=[300, 308, 316], recipe="basic")
    write_run(tmp_path, spec_of(seed=3, recipe="basic"), LEVEL, right=rightly(400))  # without test predictions
    runs_of(tmp_path, [200], recipe="none")
    write_run(tmp_path, spec_of(recipe="erasing"), LEVEL, right=rightly(400))
    alone, basic = sorted(beside(read(tmp_path)), key=lambda row: len(row.seeds))
    assert basic.seeds == (0, 1, 2)
    assert basic.validation == (pytest.approx(0.77), pytest.approx(0.02))
    assert basic.test == (pytest.approx(0.72), pytest.approx(0.02))
    assert basic.gap.mean == pytest.approx(0.05)
    # of each seed the same, but other images could give another gap: that is 1.96 * sqrt(errors of both parts)
    assert basic.gap.high - basic.gap.mean == pytest.approx(basic.gap.images) == pytest.approx(0.06, abs=0.005)
    assert alone.gap.low is None
    assert alone.test == (0.5, None)


def test_as_run_is_compared_on_clean_images(tmp_path):
    spec = spec_of(protocol="as-run")
    write_run(tmp_path, spec, LEVEL, right=rightly(300), augmented=rightly(100), test=rightly(280))
    (row,) = beside(read(tmp_path))
    assert row.validation[0] - row.test[0] == pytest.approx(row.gap.mean) == pytest.approx(0.05)


def test_predictions_of_other_images_or_damaged_are_left_out_and_said(tmp_path):
    runs_of(tmp_path, [280, 290], recipe="basic")
    first, second = (run.path / "test-predictions.safetensors" for run in collect(tmp_path).runs)
    (first.parent / "predictions.safetensors").replace(first)  # whole and of this run, but of validation images
    second.write_text("no")
    read_again = with_predictions(collect(tmp_path), labelled(np.arange(IMAGES)[::-1] % 10))
    assert all(run.tests is None for run in read_again.runs)
    assert all(any(f"{file} is {what}" in note and note.endswith("--data --test makes it anew")
                   for note in read_again.notes)
               for file, what in ((first, "of other images"), (second, "damaged")))  # fmt: skip


def test_predictions_of_another_datasets_test_images_are_left_out(tmp_path):
    runs_of(tmp_path, [280], recipe="basic")
    other = with_predictions(collect(tmp_path), labelled(np.arange(IMAGES) % 10, "cd" * 32))
    assert other.runs[0].tests is None
    assert "predicts the test images of another dataset than data; they are left out" in other.notes[0]


def test_only_runs_that_count_judge_but_all_are_in_the_table(tmp_path):
    runs_of(tmp_path, [290] * 3, recipe="basic")
    write_run(tmp_path, spec_of(seed=3, recipe="basic"), LEVEL[:5], right=rightly(0), test=rightly(0))  # cut
    made = build_report(tmp_path, tmp_path / "report", cifar_like(), test=True)
    (scored,) = (claim for claim in made.tested["claims"] if claim["verdict"] != NOT_RUN)
    assert (scored["claim"], len(scored["runs"])) == ("kaggle-2", 3)
    assert [row["seeds"] for row in made.tested["configurations"]] == [[0, 1, 2, 3]]


def test_the_report_of_test_images(tmp_path, monkeypatch, capsys):
    runs_of(tmp_path / "runs", [290] * 3, validation=[310] * 3, recipe="basic")
    monkeypatch.setattr(Dataset, "open", lambda path: cifar_like())
    command = ["fastcifar", "report", "--runs", str(tmp_path / "runs"), "--data", "d", "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", [*command, "--device", "cpu", "--test"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    printed = " ".join(capsys.readouterr().out.split())
    assert "The dataset's own 400 labelled test images are not Kaggle's, whose labels are not public." in printed
    assert "accuracy is 5.00 points higher on clean validation images than on test images" in printed
    judged = "On Kaggle's test images: 72.52 %; judged here on the dataset's own test images, not Kaggle's."
    assert f"{judged} Undecided under sound: 72.50 % ± 4." in printed
    assert "54.08 %" not in printed, "what was not run is only counted"
    html, text = ((tmp_path / "out" / name).read_text() for name in ("index.html", "report.md"))
    assert '<section id="tested">' in html
    assert '<a href="#tested">' in html
    assert "## Validation accuracy beside test accuracy" in text
    assert "| 77.50 ± 0.00 | 72.50 ± 0.00 | +5.00 [" in text
    assert text.count(judged) == 2, "in the sentences, and in the table"
    monkeypatch.setattr("sys.argv", [*command, "--device", "cpu", "--test", "--json"])
    with pytest.raises(SystemExit):
        main()
    answer = json.loads(capsys.readouterr().out)["test"]
    assert answer["images"] == IMAGES
    (row,) = answer["configurations"]
    assert row["validation"] == {"mean": pytest.approx(0.775), "sd": 0.0}
    assert row["gap"]["low"] < row["gap"]["mean"] < row["gap"]["high"]
    assert [claim["claim"] for claim in answer["claims"]] == list(KAGGLE)
