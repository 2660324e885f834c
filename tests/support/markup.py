"""Strings that would be more than text where somebody forgot to escape them, and places to look at them."""

import xml.etree.ElementTree as ElementTree
from dataclasses import fields, is_dataclass, replace
from io import StringIO

from rich.console import Console

from fastcifar.show.figures import inline
from fastcifar.show.text import printable

RAN = "document.title='ran'"
MARKUP = (
    f'A"><script>{RAN}</script>', f'<img src=x onerror="{RAN}">', f"</script><script>{RAN}</script>",
    f"'><svg onload={RAN}>", f"</style></textarea></title><script>{RAN}</script><!--", f'" autofocus onfocus={RAN} x="',
    f"javascript:{RAN}", "{{7*7}}", "{% raw %}", "&lt;b&gt;", r"$\frac{$", r"a $x^2$ costs \$5", "_begins", "[/red]",
    r"\[/red]", "[bold]x", ":smile:", "\u2028\u2029", "a\x1bz", "\udc80", "x]]>",
)  # fmt: skip
TOGETHER = " ".join(MARKUP)


def marked(value, but=(), mark=TOGETHER):
    """Return the value with ``mark`` behind every string in it: in fields, lists, and the values of mappings.

    but: names of fields and keys whose values stay.
    """
    if isinstance(value, str):
        return value + mark
    if is_dataclass(value):
        return replace(value, **{f.name: marked(getattr(value, f.name), but, mark)
                                 for f in fields(value) if f.name not in but})  # fmt: skip
    if isinstance(value, dict):
        return {key: each if key in but else marked(each, but, mark) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(marked(each, but, mark) for each in value)
    return value


def drawn_texts(figure):
    """Return the texts of a figure as they are drawn."""
    root = ElementTree.fromstring(inline(figure, TOGETHER))
    assert root.get("aria-label") == printable(TOGETHER)
    return {each.text for each in root.iter("{http://www.w3.org/2000/svg}text")}


def shown_text(renderable):
    """Return what a wide terminal shows for a renderable of rich."""
    written = StringIO()
    Console(file=written, width=5000).print(renderable)
    return written.getvalue()


def nothing_ran(browser, scripts):
    """Fail where a page has run, made or fetched more than its own. scripts: the number of its script elements."""
    found = browser.execute_script(
        "return [document.title, document.querySelectorAll('script').length,"
        "document.querySelectorAll('[onerror], [onload], [onfocus], a[href^=javascript], img[src=x]').length]"
    )
    assert "ran" not in found[0].split()
    assert found[1:] == [scripts, 0]
    assert browser.get_log("browser") == []


def strokes(browser):
    """Return the colours of the lines in a page's figures, as the browser draws them."""
    return set(
        browser.execute_script(
            "return [...document.querySelectorAll('figure svg path, figure svg use')]"
            ".map((path) => getComputedStyle(path).stroke)"
        )
    )


def rgb(colour):
    """Return "#0072B2" as "rgb(0, 114, 178)", the form of a browser."""
    return f"rgb({', '.join(str(byte) for byte in bytes.fromhex(colour[1:]))})"
