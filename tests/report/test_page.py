"""The report's page as a reader has it, in headless Chromium; and report.md."""

import base64
import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from support import written_runs
from support.browser import DESKTOP, PHONE, as_large_as, edges
from support.browser import chromium as chromium
from support.markup import TOGETHER, marked, nothing_ran, rgb, strokes
from support.written_runs import rising, spec_of, write_run

from fastcifar.experiments import EXPERIMENTS, SEEDS, experiment
from fastcifar.report import build
from fastcifar.report import page as page_module
from fastcifar.report.build import build_report
from fastcifar.report.page import page as page_of
from fastcifar.runs.spec import RunSpec
from fastcifar.show.figures import COLOURS
from fastcifar.show.text import printable


def written_grid(out, numbers=(1, 2), protocols=("sound", "as-run"), seeds=(0, 1), epochs=4, every=6):
    """Runs of every so manieth configuration, those of figures 7 and 8 with predictions."""
    dice = np.random.default_rng(1)
    for number in numbers:
        for protocol in protocols:
            for place, point in enumerate(experiment(number, protocol).configurations()):
                shown = all(point[key] == value for key, value in {"batch_size": 128, "lr": 1e-3, "l2": 0.0}.items())
                if place % every and not shown:
                    continue
                for seed in seeds:
                    spec = RunSpec(experiment=number, protocol=protocol, seed=seed, dataset="ab" * 32, **point)
                    best = 0.4 + 0.05 * (place % 7) + float(dice.uniform(0, 0.02))
                    right = dice.random(500) < best if shown else None
                    write_run(out, spec, rising(best, epochs), right=right)
    return out


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of an unfinished grid with a diverged run, a run of one epoch and a foreign folder."""
    runs, out = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("report")
    written_grid(runs)
    write_run(runs, spec_of(3), [0.3])
    write_run(runs, spec_of(3, seed=1), [0.3, None])
    (runs / "exp2" / "<holiday>").mkdir()
    build_report(runs, out)
    return out / "index.html"


@pytest.fixture
def opened(chromium, page):
    def opening(size=DESKTOP, path=page):
        as_large_as(chromium, size)
        for log in ("browser", "performance"):
            chromium.get_log(log)
        chromium.get(path.as_uri())
        return chromium

    return opening


def column(browser, section, number):
    return browser.execute_script(
        "return [...document.querySelectorAll(`#${arguments[0]} tbody tr`)].filter((row) => !row.hidden)"
        ".map((row) => row.cells[arguments[1]].textContent.trim())", section, number,
    )  # fmt: skip


def button(browser, section, name):
    (found,) = (b for b in browser.find_elements("css selector", f"#{section} th button") if b.text.startswith(name))
    return found


@pytest.mark.whole
def test_nothing_is_fetched_and_nothing_goes_wrong(opened, page):
    browser = opened()
    requests = [
        json.loads(entry["message"])["message"]["params"]["request"]["url"]
        for entry in browser.get_log("performance")
        if 'Network.requestWillBeSent"' in entry["message"]
    ]
    assert {url for url in requests if not url.startswith("data:")} == {page.as_uri()}
    assert browser.get_log("browser") == []
    assert browser.title


@pytest.mark.whole
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_it_fits_the_screen(opened, size, tmp_path):
    browser = opened(size)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
    picture = tmp_path / "page.png"
    picture.write_bytes(base64.b64decode(browser.execute_cdp_cmd("Page.captureScreenshot", {})["data"]))
    from PIL import Image

    with Image.open(picture) as image:
        assert image.size == size
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50, "it is not blank"


@pytest.mark.whole
@pytest.mark.parametrize(
    ("section", "first", "shown"),
    [
        ("claims", "td:first-child", "td[data-mark]"),
        ("configurations", "td:first-child", "td:nth-child(2)"),
        ("runs", "td:nth-child(2)", "td:nth-child(3)"),
    ],
)
def test_a_phone_shows_the_result_and_keeps_the_first_column(opened, section, first, shown):
    browser = opened(PHONE)
    rows = f"#{section} tbody tr"
    browser.execute_script("document.querySelector(arguments[0]).scrollIntoView({block: 'center'})", rows)
    left, right = edges(browser, f"{rows} {shown}")
    assert edges(browser, f"{rows} {first}")[1] <= left + 1
    assert right <= PHONE[0]
    browser.execute_script("document.querySelector(arguments[0]).scrollLeft = 150", f"#{section} .scroll")
    assert edges(browser, f"{rows} {shown}")[0] < left - 100, "the other columns scroll"
    frame = edges(browser, f"#{section} .scroll")[0]
    assert edges(browser, f"{rows} {first}")[0] == pytest.approx(frame, abs=2)
    on_top = browser.execute_script(
        "const r = document.querySelector(arguments[0]).getBoundingClientRect();"
        "return document.elementFromPoint(r.left + 9, r.top + 9).matches(arguments[1])", f"{rows} {first}", f"{rows} *",
    )  # fmt: skip
    assert on_top


@pytest.mark.whole
def test_tables_sort_by_number_and_by_word(opened):
    browser = opened()
    rates = button(browser, "configurations", "accuracy")
    for direction in ("ascending", "descending"):
        browser.execute_script("arguments[0].click()", rates)
        means = [float(text.split(" ")[0]) for text in column(browser, "configurations", 1) if text[0].isdigit()]
        assert means == sorted(means, reverse=direction == "descending")
        assert len(set(means)) > 5
        header = rates.find_element("xpath", "..")
        assert header.get_attribute("aria-sort") == direction
    browser.execute_script("arguments[0].click()", button(browser, "configurations", "configuration"))
    labels = column(browser, "configurations", 0)
    assert [label.split(",")[0] for label in labels] == sorted(label.split(",")[0] for label in labels)
    assert header.get_attribute("aria-sort") == "none"


@pytest.mark.whole
def test_tables_filter_by_all_words(opened):
    browser = opened()
    box = browser.find_element("css selector", "input[data-for=configurations]")
    before = column(browser, "configurations", 0)
    box.send_keys("ERASING as-run")
    shown = column(browser, "configurations", 0)
    assert 0 < len(shown) < len(before)
    assert all("erasing" in label for label in shown)
    assert set(column(browser, "configurations", 2)) == {"as-run"}
    output = browser.find_element("css selector", "#configurations output").text
    assert output == f"{len(shown)} of {len(before)} lines"
    box.clear()
    box.send_keys("nothing has this")
    assert column(browser, "configurations", 0) == []


@pytest.mark.whole
def test_a_protocols_figures_are_shown_at_a_time(opened):
    browser = opened()

    def shown():
        found = browser.find_elements("css selector", "figure[data-protocol]")
        return {figure.get_attribute("data-protocol") for figure in found if figure.is_displayed()}

    assert shown() == {"sound"}
    browser.execute_script("document.querySelector('input[value=\"as-run\"]').click()")
    assert shown() == {"as-run"}


@pytest.mark.whole
def test_curves_of_any_runs_are_laid_over_each_other(opened):
    browser = opened()

    def drawn():
        return [path.get_attribute("data-run") for path in browser.find_elements("css selector", "#chart path")]

    first = drawn()
    assert len(first) == 3  # something to see at once
    browser.execute_script("document.getElementById('clear').click()")
    assert drawn() == []
    boxes = browser.find_elements("css selector", "#runs input[type=checkbox]")
    chosen = [boxes[0], boxes[-1], next(box for box in boxes if "vit" in box.get_attribute("value"))]
    for box in chosen:
        browser.execute_script("arguments[0].click()", box)
    assert set(drawn()) == {box.get_attribute("value") for box in chosen}
    label = browser.find_element("css selector", "#chart svg").get_attribute("aria-label")
    assert label.startswith("validation accuracy")
    before = browser.find_element("css selector", "#chart path").get_attribute("d")
    browser.execute_script(
        "const m = document.getElementById('metric'); m.value = 't'; m.dispatchEvent(new Event('change'))"
    )
    assert browser.find_element("css selector", "#chart path").get_attribute("d") != before
    assert browser.get_log("browser") == []


@pytest.mark.whole
def test_confusion_is_the_chosen_runs(opened):
    browser = opened()
    select = browser.find_element("id", "confused")
    names = [option.text for option in select.find_elements("tag name", "option")]
    assert len(names) > 5

    def counts():
        return [cell.text for cell in browser.find_elements("css selector", "#matrix td")]

    before = counts()
    assert len(before) == 110
    assert sum(int(text) for n, text in enumerate(before) if n % 11 < 10) == 500
    browser.execute_script(
        "arguments[0].selectedIndex = 3; arguments[0].dispatchEvent(new Event('change'))", select
    )  # fmt: skip
    assert counts() != before


@pytest.mark.whole
def test_light_and_dark(opened):
    browser = opened()

    def paper():
        return browser.execute_script("return getComputedStyle(document.body).backgroundColor")

    before = paper()
    browser.find_element("id", "theme").click()
    after = paper()
    assert {before, after} == {"rgb(255, 255, 255)", "rgb(13, 17, 23)"}
    browser.find_element("id", "theme").click()
    assert paper() == before


@pytest.mark.whole
def test_the_keyboard_is_enough(opened):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser = opened()
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert browser.switch_to.active_element.text == "Skip to content"
    header = button(browser, "configurations", "accuracy")
    browser.execute_script("arguments[0].focus()", header)
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert header.find_element("xpath", "..").get_attribute("aria-sort") == "ascending"
    box = browser.find_elements("css selector", "#runs input[type=checkbox]")[5]
    browser.execute_script("arguments[0].focus()", box)
    browser.switch_to.active_element.send_keys(Keys.SPACE)
    assert box.is_selected()


@pytest.mark.whole
def test_every_number_leads_to_its_runs(opened):
    browser = opened()
    links = browser.execute_script("return [...document.querySelectorAll('details a')].map((a) => a.hash.slice(1))")
    known = set(browser.execute_script("return [...document.querySelectorAll('#runs tbody tr')].map((row) => row.id)"))
    assert set(links) == known, "every run is evidence of something, and every link leads to one"
    assert "<holiday>" in browser.find_element("id", "missing").text


@pytest.mark.whole
def test_the_same_report_for_a_repository(page):
    text = page.with_name("report.md").read_text()
    for name in re.findall(r"!\[[^]]*\]\((.*?)\)", text):
        assert (page.parent / name).is_file(), name
    assert "| configuration | accuracy, % | protocol |" in text
    assert "undecided" in text
    for row in re.findall(r"^\|.*\|$", text, re.MULTILINE):
        assert row.count("|") >= 3
    assert "Protocol sound: " in text
    assert "&lt;holiday>" in text


@pytest.mark.slow
def test_the_whole_grid_takes_seconds_and_a_few_megabytes(tmp_path, opened):
    runs = written_grid(tmp_path / "runs", EXPERIMENTS, ("sound",), SEEDS, epochs=60, every=1)
    assert sum(1 for _ in runs.glob("exp*/*/run.json")) == 249
    started = time.perf_counter()
    build_report(runs, tmp_path / "report")
    assert time.perf_counter() - started < 30
    index = tmp_path / "report" / "index.html"
    assert index.stat().st_size < 10e6
    browser = opened(path=index)
    timing = browser.execute_script(
        "const t = performance.getEntriesByType('navigation')[0]; return t.loadEventEnd - t.startTime"
    )
    assert 0 < timing < 2000
    assert "Protocol sound: 249 of 249" in index.read_text()
    assert len(list(Path(tmp_path / "report").glob("figure-*.png"))) == 12


# nothing that was read runs

KEPT = ("svg", "file", "name")
"""The fields of a report that no file has a say in."""


def hostile_report(runs, out, monkeypatch):
    """Build a report with markup in every string: of notes, tables, captions, runs, curves, classes and figures."""
    ended = {"environment": written_runs.CONTEXT["environment"] | {"cpu": TOGETHER}}
    monkeypatch.setattr(written_runs, "CONTEXT", written_runs.CONTEXT | ended)
    right = np.arange(100) % 3 > 0
    for recipe in ("none", "basic"):
        write_run(runs, spec_of(recipe=recipe), rising(0.5), right=right)
    (runs / "exp2" / "<img src=x onerror=document.title='ran'>").mkdir()
    damaged = write_run(runs, spec_of(recipe="erasing"), rising(0.5)).path
    (damaged / "summary.json").write_text(f"[{TOGETHER.encode('ascii', 'ignore').decode()}")

    def hostile(contents, table, samples, collection):
        samples = [(f"sample{TOGETHER}", b"")]
        return page_of(marked(contents, but=KEPT), marked(table, but=KEPT), samples, collection)

    def keyed(of):
        return lambda collection: {printable(run + TOGETHER): marked(each) for run, each in of(collection).items()}

    monkeypatch.setattr(build, "page", hostile)
    monkeypatch.setattr(build, "inline", lambda figure, title, of=build.inline: of(figure, title + TOGETHER))
    for name in ("curves_by_run", "confusions"):
        monkeypatch.setattr(f"fastcifar.report.page.{name}", keyed(getattr(page_module, name)))
    return build_report(runs, out)


@pytest.mark.whole
@pytest.mark.parametrize("wall", [True, False], ids=["policy", "escaping alone"])
def test_what_was_read_is_text(opened, tmp_path, monkeypatch, wall):
    hostile_report(tmp_path / "runs", tmp_path / "out", monkeypatch)
    index = tmp_path / "out" / "index.html"
    if not wall:
        index.write_text(index.read_text().replace("Content-Security-Policy", "no-policy"))
    browser = opened(path=index)
    for box in browser.find_elements("css selector", "#runs input[type=checkbox]"):
        browser.execute_script("arguments[0].click()", box)
    nothing_ran(browser, scripts=3)
    assert browser.title == " ".join(f"{build.TITLE}{printable(TOGETHER)}".split())
    shown = browser.execute_script("return document.body.textContent.toWellFormed()")
    for text in ("finished", "sound", "sample", "none", "Losses by augmentation, experiment 2"):
        assert f"{text}{printable(TOGETHER)}" in shown
    assert "onerror=document.title='ran'>" in shown, "the name of the foreign folder"
    browser.execute_script("document.querySelector('#confused').dispatchEvent(new Event('change'))")
    head = browser.execute_script(
        "return [...document.querySelectorAll('#matrix th')].map((th) => th.textContent.toWellFormed())"
    )
    assert head.count("3" + TOGETHER.replace("\udc80", "\ufffd")) == 2
    nothing_ran(browser, scripts=3)


@pytest.mark.whole
def test_figures_keep_their_colours(opened):
    browser = opened()
    assert {rgb(colour) for colour in COLOURS} <= strokes(browser)
    fills = browser.execute_script(
        "return [...document.querySelectorAll('#matrix td')].map((td) => getComputedStyle(td).backgroundColor)"
    )
    assert len(set(fills)) > 5, "so do the cells of a confusion matrix"


@pytest.mark.whole
def test_names_are_text_in_a_repository_too(tmp_path, monkeypatch):
    hostile_report(tmp_path / "runs", tmp_path / "out", monkeypatch)
    text = (tmp_path / "out" / "report.md").read_text()
    assert not re.search(r"<(img|script|svg)", text)
