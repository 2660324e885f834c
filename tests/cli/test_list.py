"""``fastcifar list``: a table, or JSON."""

import json


def test_list_is_a_table_or_json(command, tmp_path):
    answer = command("list", "--out", tmp_path)
    assert (answer.code, answer.err) == (0, "")
    for word in ("experiments", "recipes", "pipelines", "runs", "resident", "erasing", "mlp_l"):
        assert word in answer.out
    sections = json.loads(command("list", "--out", tmp_path, "--json").out)
    assert list(sections) == ["experiments", "recipes", "pipelines", "runs"]
    assert json.loads(command("list", "recipes", "--json").out) == {"recipes": sections["recipes"]}
    answer = command("list", "models")
    assert (answer.code, answer.out) == (2, "")
    assert "section 'models' does not exist; there are experiments" in answer.err
