"""HTML pages from templates. A page contains its style and scripts, so it needs neither a network nor a server."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(__file__).resolve().parent


def rendered(folder: Path, template: str, scripts: Sequence[str], **values: Any) -> str:
    """Return the HTML of a template with the style, the scripts and the values in it; all values are escaped.

    folder: the folder of the template and the scripts; files that it lacks come from the folder of this module.
    """
    folders = [folder, HERE]
    loader = FileSystemLoader(folders)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    shared = {
        "css": loader.get_source(environment, "page.css")[0],
        "scripts": [loader.get_source(environment, script)[0] for script in scripts],
    }
    return environment.get_template(template).render(**shared, **values)
