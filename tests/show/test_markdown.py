"""Tables in Markdown, and the line of where their rows are from."""

from fastcifar.show.markdown import escaped, table, under

AROUND = {"cpu": "C", "cores": 2, "python": "3.12", "versions": {"torch": "1"}, "commit": "0123456789", "dirty": False}


def test_a_table_of_numbers_and_one_of_words():
    assert table(["a", "b"], [["x", "1"], ["y", ""]]) == "| a | b |\n| --- | ---: |\n| x | 1 |\n| y |  |\n"
    assert table(["a", "b"], [], numbers=False) == "| a | b |\n| --- | --- |\n"


def test_no_cell_breaks_its_table():
    assert table(["a|b"], [["<i>\nx|y"]]) == "| a\\|b |\n| --- |\n| &lt;i> x\\|y |\n"
    assert escaped("1 | <2") == "1 \\| &lt;2"


def test_rows_say_where_they_are_from():
    rows = [{"environment": AROUND}, {"environment": AROUND}, {"environment": AROUND | {"dirty": True}}]
    expected = "text\n\nC, 2 cores; Python 3.12, torch 1; commit 01234567, 01234567 with other changes.\n"
    assert under("text\n", rows, ("torch",)) == expected


def test_rows_of_a_gpu_name_it_first():
    rows = [{"device": "cuda", "environment": AROUND | {"gpus": [{"name": "NVIDIA X", "driver": "5"}]}}]
    assert under("", rows, ("torch",)) == "\nNVIDIA X; C, 2 cores; Python 3.12, torch 1; commit 01234567.\n"


def test_a_text_starts_neither_a_tag_nor_a_link_nor_a_formula():
    assert escaped("![a](b) [c][d] [e]: f") == "![a\\](b) [c\\][d] [e\\]: f"
    assert escaped("[+1.0, +2.0] points") == "[+1.0, +2.0] points"
    assert escaped("$x$ &lt;b> &#60; a & b") == "\\$x\\$ &amp;lt;b> &amp;#60; a & b"
    assert escaped("\\| \\<i> C:\\a") == "\\\\\\| \\\\&lt;i> C:\\a"
    escaped("\udc80").encode()
