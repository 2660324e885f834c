"""HTML pages from templates, with their style and scripts inside, so that a page needs neither network nor server."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(__file__).resolve().parent


def rendered(folder: Path, template: str, scripts: Sequence[str], **values: Any) -> str:
    """The HTML of a template, with the style, the scripts and the values in it; all values are escaped.

    folder: where the template and its scripts are; those of this folder are found too.
    """
    folders = [folder, HERE]
    loader = FileSystemLoader(folders)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    shared = {
        "css": loader.get_source(environment, "page.css")[0],
        "scripts": [loader.get_source(environment, script)[0] for script in scripts],
    }
    return environment.get_template(template).render(**shared, **values)
