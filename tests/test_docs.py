"""The pages for readers: their links and pictures exist, README.md stays short, and its Python runs."""

import re
import shutil

import pytest
from support import ROOT

README = ROOT / "README.md"
PAGES = [
    README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "kernels" / "README.md", ROOT / "pipelines" / "README.md", ROOT / "fastcifar" / "packs" / "README.md",
]  # fmt: skip
LINK = re.compile(r"\]\(([^)\s]+)\)")
FOREIGN = ("http://", "https://", "mailto:")


def anchors(text: str) -> set[str]:
    """The addresses of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_pictures_exist(page):
    text = page.read_text(encoding="utf-8")
    for target in LINK.findall(text):
        if target.startswith(FOREIGN):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), f"{page.name} leads to {target}, which does not exist"
        assert file.resolve().is_relative_to(ROOT), f"{page.name} leads to {target}, outside of the checkout"
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), f"{page.name} leads to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_in_backticks_exist(page):
    """Paths from the checkout's root that end like a file of it."""
    names = re.findall(
        r"`((?:fastcifar|bench|tools|tests|docs)/[\w./-]+\.(?:py|md|jsonl|png))`", page.read_text("utf-8")
    )
    if page.name == "CHANGELOG.md":
        return  # it tells of files as they were named then
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_every_page_of_the_docs_is_linked_from_the_readme():
    linked = set(LINK.findall(README.read_text(encoding="utf-8")))
    pages = {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} - {"docs/style.md"}
    assert pages <= linked


def test_the_readme_stays_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_the_readme_has_five_claims():
    (table,) = re.findall(r"<!-- rows .*? -->\n(.*?)<!-- end -->", README.read_text(encoding="utf-8"), re.DOTALL)
    header, _, *lines = table.splitlines()
    assert header == "| claim | figure | hardware | commit | command |"
    assert len(lines) == 5
    assert all(cell.strip() for line in lines for cell in line.strip("|").split("|"))


@pytest.mark.parametrize("page", [README, ROOT / "docs" / "library.md"], ids=lambda page: page.name)
def test_a_pages_python_runs_and_is_short(page, synthetic, tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert sum(1 for line in code.splitlines() if line) <= 6
    shutil.copytree(synthetic.path, tmp_path / "data" / "cifar10")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(code, page.name, "exec"), names)
    assert names["images"].shape == (80, 3, 32, 32)
    assert names["loader"].epoch == 2
    if page == README:
        assert capsys.readouterr().out.splitlines()[-1].startswith("1 torch.Size([80, 3, 32, 32]) [")
