"""HTML pages from templates. A page contains its style and scripts, so it needs neither a network nor a server.

What is read from files reaches a page as text. Two walls keep it from running: the templates escape every value, and
the page's Content-Security-Policy permits its own scripts alone, each by its hash.
"""

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fastcifar.show.text import printable

HERE = Path(__file__).resolve().parent


def rendered(folder: Path, template: str, scripts: Sequence[str], **values: Any) -> str:
    """Return the HTML of a template with the style, the scripts and the values in it; all values are escaped.

    The text can be written as UTF-8, and `printable` characters are its only ones.
    folder: the folder of the template and the scripts; files that it lacks come from the folder of this module.
    """
    folders = [folder, HERE]
    loader = FileSystemLoader(folders)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    sources = [loader.get_source(environment, script)[0] for script in scripts]
    shared = {
        "css": loader.get_source(environment, "page.css")[0],
        "scripts": sources,
        "policy": policy(sources),
    }
    return printable(environment.get_template(template).render(**shared, **values))


def policy(scripts: Sequence[str]) -> str:
    """Return the Content-Security-Policy of a page: these scripts run, and no other; nothing is fetched.

    Styles are permitted without a hash, because the figures have style attributes. Pictures are data: addresses.
    """
    hashes = (b64encode(sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{each}'" for each in hashes) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
