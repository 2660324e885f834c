"""The page of benchmark rows on a desktop's screen and on a phone's."""

import pytest
from support import ROOT
from support.browser import DESKTOP, PHONE, as_large_as, edges
from support.browser import chromium as chromium

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
