"""The files of a diagnosis: its tables, and what they may replace."""

from math import inf, nan

import pytest
from support.diagnosis import EVAL, FAST, SLOW, of
from support.text import text_of

from fastcifar.diagnose import findings, record
from fastcifar.diagnose.batchnorm import Diagnosis
from fastcifar.diagnose.splits import ONE, band
from fastcifar.diagnose.suspects import TITLES
from fastcifar.diagnose.verdict import Judgement, headline, not_run
from fastcifar.errors import UsageError


def test_tables(made):
    text = record.diagnosis_markdown(made)
    assert text.startswith(f"{headline(made.judgements)}\n\n- {made.judgements[0].sentence}\n")
    assert all(f"- {one.sentence}\n" in text for one in made.judgements)
    assert findings.DEFINITION in text
    assert f"\n| epoch | {FAST} | {SLOW} | {EVAL} | all weights |\n" in text
    last = of(made.evaluations, EVAL)[-1]
    assert f" | {last.loss:.3g} ({100 * last.accuracy:.2f}) | " in text
    assert "\n| 0 | " in text
    assert text.splitlines()[-1].startswith("| 3 | ")
    assert f"{band(made.seeds, ONE, 'loss')[-1][0]:.4g} ± " in text.splitlines()[-1]
    for name in (FAST, SLOW, EVAL, "all weights"):
        assert name in text_of(record.finding_table(made.findings))


def test_tables_of_what_was_not_run():
    text = record.diagnosis_markdown(Diagnosis(judgements=[not_run(name) for name in TITLES]))
    assert text.startswith("Not run: drift, statistics, split, weights.\n")
    assert "|" not in text


def test_numbers_that_json_does_not_have_are_null():
    found = record.as_json(Judgement("drift", "", "", {"ratio": inf, "interval": (1.0, nan), "more": [{"loss": nan}]}))
    assert found["numbers"] == {"ratio": None, "interval": [1.0, None], "more": [{"loss": None}]}


def test_overwriting_replaces_diagnoses_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    for more in ("letter.txt", "summary.json"):
        (tmp_path / more).write_text("{}")
        with pytest.raises(UsageError, match="is not a diagnosis, and --overwrite replaces nothing else"):
            record.check_folder(tmp_path, overwrite=True)
    with pytest.raises(UsageError, match="is not a diagnosis"):
        record.check_folder(tmp_path / "letter.txt", overwrite=True)
    (tmp_path / "letter.txt").unlink()
    record.check_folder(tmp_path, overwrite=True)  # one without the seeds
