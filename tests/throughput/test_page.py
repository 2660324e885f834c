"""The page of benchmark rows on a desktop's screen and on a phone's."""

import json

import pytest
from support import ROOT
from support.browser import DESKTOP, PHONE, as_large_as, edges
from support.browser import chromium as chromium
from support.markup import MARKUP, TOGETHER, marked, nothing_ran, rgb, strokes
from support.throughput import OUT, made

from fastcifar.show.figures import COLOURS
from fastcifar.show.text import printable
from fastcifar.throughput import rows
from fastcifar.throughput.page import build_page


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench-report")
    build_page([ROOT / "bench" / "results" / "throughput-cpu.jsonl"], out)
    return out / "index.html"


@pytest.mark.whole
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_number_of_the_figure_is_on_the_screen(chromium, page, size):
    as_large_as(chromium, size)
    chromium.get(page.as_uri())
    assert chromium.execute_script("return document.documentElement.scrollWidth") <= size[0]
    found = chromium.execute_script(
        "return [...document.querySelectorAll('figure.card text')].map((t) => t.getBoundingClientRect())"
        ".filter((r) => r.width > 0).map((r) => [r.left, r.right])"
    )
    assert len(found) > 50
    assert all(left >= 0 and right <= size[0] for left, right in found)
    shown = [figure.is_displayed() for figure in chromium.find_elements("css selector", "figure.card > div")]
    assert sum(shown) == 1, "one of the two forms of the figure"


@pytest.mark.whole
def test_a_phone_shows_the_speed_and_keeps_the_first_column(chromium, page):
    as_large_as(chromium, PHONE)
    chromium.get(page.as_uri())
    row = "main section table tbody tr"
    assert edges(chromium, f"{row} td:nth-child(3)")[1] <= PHONE[0]
    before = edges(chromium, f"{row} td:first-child")
    chromium.execute_script("document.querySelector('main section .scroll').scrollLeft = 120")
    assert edges(chromium, f"{row} td:first-child") == pytest.approx(before, abs=2)
    assert edges(chromium, f"{row} td:nth-child(3)")[1] < PHONE[0] - 100


def hostile_rows(device):
    """Rows that each string of a row makes a part of the page."""
    rows = [made("a", [9.0]), made("b", [5.0, 4], reason="why", verified=False), made("c", [1.0], **OUT, model="m")]
    return [marked(row, but=("commit",)) | {"device": device + TOGETHER} for row in rows]


@pytest.mark.filterwarnings("ignore:constrained_layout not applied")  # names of this length leave no room
@pytest.mark.whole
@pytest.mark.parametrize("wall", [True, False], ids=["policy", "escaping alone"])
def test_rows_are_text(chromium, tmp_path, monkeypatch, wall):
    monkeypatch.setattr("fastcifar.throughput.page.read", lambda *_: hostile_rows("cpu"))
    source = tmp_path / "'><img src=x onerror=document.title='ran'>.jsonl"
    source.touch()
    files = build_page([source], tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(files)
    index = tmp_path / "out" / "index.html"
    if not wall:
        index.write_text(index.read_text().replace("Content-Security-Policy", "no-policy"))
    chromium.get_log("browser")
    chromium.get(index.as_uri())
    nothing_ran(chromium, scripts=2)
    assert chromium.title == "Throughput"
    shown = chromium.execute_script("return document.body.textContent")
    for text in ("a", "cpu", "none", "why"):
        assert f"{text}{printable(TOGETHER)}" in shown
    assert chromium.execute_script("return document.querySelector('svg').getAttribute('aria-label')").startswith(
        "'><img"
    )
    assert {rgb(COLOURS[0]), rgb(COLOURS[1])} <= strokes(chromium)


@pytest.mark.parametrize("cpu", [*MARKUP, "../../../up", "/root", "a" * 5000, "..", "", "日本", "a\nb"])
def test_a_processor_names_files_in_the_folder_and_nowhere_else(tmp_path, cpu):
    source, out = tmp_path / "in" / "rows.jsonl", tmp_path / "in" / "out"
    source.parent.mkdir()
    row = made("a", [9.0])
    row["environment"]["cpu"] = cpu
    rows.write([row], source)
    files = build_page([source], out)
    assert {path.name for path in out.iterdir()} == set(files)
    assert {path.name for path in source.parent.iterdir()} == {"rows.jsonl", "out"}
    assert {path.name for path in tmp_path.iterdir()} == {"in"}
    assert len(files) == 3


def test_parts_whose_names_are_alike_have_files_of_their_own(tmp_path):
    for folder, cpu in (("a", "x y"), ("b", "x/y"), ("c", "x,/y")):
        (tmp_path / folder).mkdir()
        row = made("a", [9.0])
        row["environment"]["cpu"] = cpu
        (tmp_path / folder / "rows.jsonl").write_text(json.dumps(row))
    files = build_page([tmp_path / folder for folder in "abc"], tmp_path / "out")
    assert [name for name in files if name.endswith("png")] == [
        f"rows-x-y-2-cores{end}.png" for end in ("", "-2", "-3")
    ]  # fmt: skip
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(files)
