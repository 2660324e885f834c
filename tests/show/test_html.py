"""The two walls of a page: values are escaped, and the policy lets no script run but the page's own."""

import json
import re

import pytest
from support.browser import chromium as chromium
from support.markup import MARKUP, TOGETHER, nothing_ran

from fastcifar.show.html import policy, rendered
from fastcifar.show.text import printable

VALUES = {"lead": TOGETHER, "foot": TOGETHER, "sections": [(TOGETHER, TOGETHER)], "data": {TOGETHER: TOGETHER}}


def page(folder, content, title=TOGETHER):
    (folder / "made.html").write_text('{% extends "base.html" %}{% block content %}' + content + "{% endblock %}")
    return rendered(folder, "made.html", ("tables.js",), title=title, evil=TOGETHER, **VALUES)


@pytest.mark.whole
def test_a_value_is_text_in_every_place_of_a_page(tmp_path, chromium):
    file = tmp_path / "page.html"
    places = (
        '<p id="here" title="{{ evil }}">{{ evil }}</p><select><option value="{{ evil }}">{{ evil }}</option></select>'
    )
    file.write_text(page(tmp_path, places), encoding="utf-8")
    chromium.get_log("browser")
    chromium.get(file.as_uri())
    nothing_ran(chromium, scripts=2)
    shown = chromium.execute_script(
        "const p = document.getElementById('here');"
        "return [p.textContent, p.title, document.querySelector('option').value,"
        "document.querySelector('.lead').textContent, document.querySelector('nav a').getAttribute('href').slice(1),"
        "document.querySelector('title').textContent]"
    )
    assert shown == [printable(TOGETHER)] * len(shown)
    data = chromium.execute_script("return JSON.stringify(JSON.parse(document.getElementById('data').textContent))")
    assert json.loads(data) == {TOGETHER: TOGETHER}


@pytest.mark.whole
def test_the_policy_stops_what_was_not_escaped(tmp_path, chromium):
    """Without the policy, the same page shows that these scripts would run."""
    for number, text in enumerate(text for text in MARKUP if text.startswith(("A", "<img", "</script>", "'>"))):
        html = page(tmp_path, text, title="held")
        bare = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
        assert bare != html
        for name, content, title in (("with", html, "held"), ("without", bare, "ran")):
            file = tmp_path / f"{name}-{number}.html"
            file.write_text(content, encoding="utf-8")
            chromium.get(file.as_uri())
            assert chromium.title == title, text
    refusals = [
        entry["message"] for entry in chromium.get_log("browser") if "Content Security Policy" in entry["message"]
    ]
    assert len(refusals) >= 4


def test_the_policy_names_each_script_by_its_hash():
    assert "script-src 'none'" in policy([])
    # from the example of https://www.w3.org/TR/CSP3/, 8.3: alert('Hello, world.');
    assert "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='" in policy(["alert('Hello, world.');"])
    first, second = (policy([text]) for text in ("a", "b"))
    assert first != second
    for source in ("default-src 'none'", "style-src 'unsafe-inline'", "img-src data:", "base-uri 'none'"):
        assert source in first
