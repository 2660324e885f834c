"""The files of a diagnosis: its tables, and what they may replace."""

import pytest
from support.diagnosis import EVAL, FAST, SLOW, of
from support.text import text_of

from fastcifar.diagnose import record, verdict
from fastcifar.diagnose.verdict import findings, sentence
from fastcifar.errors import UsageError


@pytest.mark.whole
def test_tables(evaluations):
    found = findings(evaluations)
    text = record.diagnosis_markdown(evaluations, found)
    assert text.startswith(f"{sentence(found)}\n\n| arm | loss | restored |")
    assert verdict.DEFINITION in text
    assert f"\n| epoch | {FAST} | {SLOW} | {EVAL} |\n" in text
    last = of(evaluations, EVAL)[-1]
    assert text.splitlines()[-1].startswith("| 2 | ")
    assert text.splitlines()[-1].endswith(f" | {last.loss:.3g} ({100 * last.accuracy:.2f}) |")
    for name in (FAST, SLOW, EVAL):
        assert name in text_of(record.finding_table(found))


def test_overwriting_replaces_diagnoses_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="is not a diagnosis, and --overwrite replaces nothing else"):
        record.check_folder(tmp_path, overwrite=True)
    with pytest.raises(UsageError, match="is not a diagnosis"):
        record.check_folder(tmp_path / "letter.txt", overwrite=True)
