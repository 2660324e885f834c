"""``fastcifar predict``: the submission, what is said of accuracy, and how misuse is answered."""

import json

import pytest
from PIL import Image
from support.builders import class_folders, kaggle, packed
from support.kept import kept, saying
from support.text import without_news

from fastcifar.data.convert import convert

SURE, UNSURE = [0.91, *[0.01] * 9], [0.1, 0.82, *[0.01] * 8]

UPLOAD = "next: upload {} at https://www.kaggle.com/competitions/cifar-10/submit, which knows the labels\n"


@pytest.fixture(scope="module")
def kaggles(tmp_path_factory):
    """Seven test images without labels, of ids 1 to 7."""
    folder = tmp_path_factory.mktemp("kaggle")
    return convert(str(packed(kaggle(), "folder", folder / "files")), folder / "dataset")


def test_predict_writes_a_submission(command, kaggles, tmp_path):
    runs = kept(kaggles, tmp_path, saying(SURE)), kept(kaggles, tmp_path, saying(UNSURE), seed=1)
    out = tmp_path / "submission.csv"
    answer = command("predict", *runs, "--data", kaggles.path, "--out", out, "--device", "cpu")
    assert (answer.code, answer.out) == (0, f"{out}: 7 rows by 2 runs, tta none\n")
    assert without_news(answer.err) == UPLOAD.format(out)
    assert out.read_text() == "id,label\n" + "".join(f"{number},airplane\n" for number in range(1, 8))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exp2", "submission.csv"]  # and no picture
    answer = command("predict", runs[1], "--data", kaggles.path, "--out", out, "--tta", "flip", "--json")
    assert json.loads(answer.out) == {
        "runs": [str(runs[1])], "split": "test", "tta": "flip", "out": str(out), "rows": 7,
    }  # fmt: skip
    assert out.read_text().splitlines()[7] == "7,automobile"


def test_predict_says_how_good_it_is_where_labels_are_known(command, synthetic, tmp_path):
    run, out = kept(synthetic, tmp_path, saying(SURE)), tmp_path / "s.csv"
    labels = synthetic.labels("train")[synthetic.ids("validation")]
    right = float((labels == 0).mean())
    answer = command("predict", run, "--data", synthetic.path, "--split", "val", "--out", out, "--device", "cpu")
    assert (answer.code, without_news(answer.err)) == (0, "")
    lines = answer.out.splitlines()
    assert lines[0] == f"{synthetic.name}, validation: 1 run, tta none"
    figures = next(line for line in lines if line.startswith("    20  "))
    assert f"{100 * right:.2f}" in figures.split()
    assert f"{100 * abs(right - 0.91):.2f}" in figures.split()  # the calibration error: all confidences are 0.91
    assert "Confusion: a row for each true class" in answer.out
    assert lines[-2:] == [f"picture: {tmp_path / 's.png'}", f"{out}: 20 rows by 1 run, tta none"]
    with Image.open(tmp_path / "s.png") as image:
        image.verify()
    rows = synthetic.ids("validation") + 1
    assert out.read_text().splitlines()[1:] == [f"{row},{synthetic.classes[0]}" for row in rows]

    picture = tmp_path / "elsewhere.png"
    answer = command("predict", run, "--data", synthetic.path, "--json", "--picture", picture, "--device", "cpu")
    result = json.loads(answer.out)  # of test, which is labelled here
    assert (result["split"], result["images"], result["picture"]) == ("test", 20, str(picture))
    assert result["accuracy"] == float((synthetic.labels("test") == 0).mean())
    assert sum(map(sum, result["confusion"])) == 20
    assert picture.exists()
    answer = command("predict", run, "--data", synthetic.path, "--split", "val", "--json")
    assert "picture" not in json.loads(answer.out)


def test_predict_s_notes(command, synthetic, kaggles, tmp_path):
    """Both datasets are of CIFAR-10's classes."""
    run, out = kept(synthetic, tmp_path, saying(SURE), status="unfinished"), tmp_path / "s.csv"
    answer = command("predict", run, "--data", kaggles.path, "--out", out)
    assert answer.code == 0
    assert without_news(answer.err).splitlines() == [
        f"{run} is not finished; its weights are those of epoch 3",
        f"{run} was trained on another dataset, {synthetic.name}; images of {kaggles.path} may be among its training "
        "images",
        UPLOAD.format(out).strip(),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}"], "has no labels of its 7 test images, so accuracy cannot be measured; give --out"),
        (["{run}", "--out", "{tmp}/s.csv", "--picture", "{tmp}/s.png"], "accuracy cannot be measured; leave out --pic"),
        (["{run}", "--out", "{tmp}/s.txt"], "s.txt: a submission is a CSV file; call it s.txt.csv, for example"),
        (["{run}", "--out", "{tmp}/s"], "s: a submission is a CSV file; call it s.csv, for example"),
        (["{run}", "--out", "{tmp}/no/s.csv"], "s.csv: there is no folder {tmp}/no; make it first: mkdir -p {tmp}/no"),
        (["{run}", "--out", "{tmp}/folder.csv"], "is a directory; name a file, say {tmp}/folder.csv/predicted.csv"),
        (["{run}", "--split", "val", "--picture", "{tmp}/s.jpg"], "the picture is a PNG file; call it s.jpg.png"),
        (["{run}", "--split", "tset"], "split 'tset' does not exist; did you mean 'test'? There are training,"),
        (["{run}", "--out", "{tmp}/s.csv", "--tta", "spin"], "--tta 'spin' does not exist; there are none, flip"),
        (["{run}", "--amp", "on"], "--amp 'on' is not one of auto, off, bfloat16, float16"),
        (["{run}", "--device", "gpu"], "device 'gpu' is not one of auto, cpu, cuda, cuda:N"),
        (["{run}", "{run}"], "are the same run, "),
        (["{tmp}"], "{tmp} is not a run directory, as it has no run.json"),
        (["{others}", "--out", "{tmp}/s.csv"], "tells 2 classes apart (ant, cat), but "),
    ],
)
def test_predict_s_misuse_names_the_thing_its_value_and_the_cure(command, kaggles, tmp_path, arguments, message):
    other = convert(str(packed(class_folders(), "folder", tmp_path / "images")), tmp_path / "other")
    places = {"tmp": tmp_path, "run": kept(kaggles, tmp_path / "runs", saying(SURE))}
    places["others"] = kept(other, tmp_path / "runs", saying([0.5, 0.5]), seed=1)
    (tmp_path / "folder.csv").mkdir()
    before = sorted(tmp_path.iterdir())
    answer = command("predict", *(text.format(**places) for text in arguments), "--data", kaggles.path)
    assert (answer.code, answer.out) == (2, "")
    error = without_news(answer.err)
    assert error.startswith("error: ")
    assert message.format(**places) in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
