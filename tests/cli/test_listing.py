"""What there is, as plain data and as tables."""

import pytest
from support.lines import line_of
from support.specs import SPEC
from support.text import text_of

from fastcifar.cli import listing
from fastcifar.errors import UsageError
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.outcome import summary_of


def test_listings(tmp_path):
    sections = listing.sections("all", tmp_path)
    assert list(sections) == ["experiments", "recipes", "pipelines", "runs"]
    assert len(sections["experiments"]) == 12  # four, under three protocols
    assert {row["recipe"]: row["does"] for row in sections["recipes"]}["none"] == {}
    assert {row["pipeline"]: row["ready"] for row in sections["pipelines"]}["resident"] is True
    assert sections["runs"] == []
    text = text_of(*listing.section_tables(sections))
    for word in ("experiments", "mlp_s, mlp_l", "as-run", "erasing", "resident", "none yet"):
        assert word in text
    with pytest.raises(UsageError, match=r"section 'recipe' does not exist; did you mean 'recipes'\? There are"):
        listing.sections("recipe", tmp_path)


def test_runs_are_listed_as_they_stand(tmp_path):
    directory = RunDirectory.of(SPEC, tmp_path)
    with directory.locked():
        directory.start(SPEC, {})
        directory.append_metrics(line := line_of(1, None, None))
    row = {"run": SPEC.run_id, "status": "unfinished", "epochs": 1, "accuracy, %": ""}
    assert listing.sections("runs", tmp_path) == {"runs": [row]}
    directory.finish(summary_of(SPEC, [line], 10))
    assert listing.sections("runs", tmp_path)["runs"] == [
        row | {"status": "diverged", "accuracy, %": "none (1 diverged)"}
    ]
