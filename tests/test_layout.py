"""What a wheel holds, and that fastcifar is whole however it is reached: installed, or a checkout that is not."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from support import ROOT
from support.specs import SPEC

import fastcifar
from fastcifar.data.convert import convert

PACKED = (".py", ".html", ".css", ".js")
FOLDERS = {"fastcifar": "fastcifar", "kernels": "fastcifar/kernels", "pipelines": "fastcifar/pipelines"}
PYTHONS = "FASTCIFAR_PYTHONS"
"""The variable with further Pythons to run the demo with, as PATH has folders. They have what setup.py requires."""
FILES = ["setup.py", "pyproject.toml", "README.md", "LICENSE"]


def run(*command: str | Path) -> str:
    ran = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the package is made from, in a folder of its own."""
    copy = tmp_path_factory.mktemp("checkout")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(ROOT / file, copy / file)
    return copy


@pytest.fixture(scope="module")
def distributions(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(sdist, wheel), the wheel built from the sdist, so that what the sdist lacks the wheel lacks too."""
    out = tmp_path_factory.mktemp("dist")
    run("-m", "build", "--no-isolation", "--outdir", out, checkout)
    return next(out.glob("*.tar.gz")), next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(distributions: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    run("-m", "pip", "install", "--no-index", "--no-deps", "--target", target, distributions[1])
    return target


def modules() -> set[str]:
    """Every module of the checkout, by the path it has once installed."""
    return {
        f"{place}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, place in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in PACKED
    }


@pytest.mark.whole
def test_a_wheel_has_one_top_level_name_and_every_module(distributions: tuple[Path, Path]) -> None:
    names = zipfile.ZipFile(distributions[1]).namelist()
    dist_info = f"fastcifar-{fastcifar.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"fastcifar", dist_info}
    assert {
        name for name in names if Path(name).suffix in PACKED
    } == modules()  # a folder missing from setup.py shows here
    assert "fastcifar/kernels/reference.py" in names


@pytest.mark.whole
def test_the_sdist_holds_every_module_where_the_checkout_has_it(distributions: tuple[Path, Path]) -> None:
    with tarfile.open(distributions[0]) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    for folder in FOLDERS:
        assert {
            path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*") if path.suffix in PACKED
        } <= held
    assert {"LICENSE", "README.md", "pyproject.toml", "setup.py"} <= held


@pytest.mark.whole
@pytest.mark.parametrize("reached", ["installed", "checkout"])
def test_kernels_and_pipelines_are_sub_packages_alone(reached: str, request: pytest.FixtureRequest) -> None:
    place = request.getfixturevalue(reached)
    # -I: neither the working directory nor PYTHONPATH may help; the path put first wins over an editable install.
    code = f"""
import sys
sys.path.insert(0, {str(place)!r})
import fastcifar
import fastcifar.kernels.reference as reference
import fastcifar.pipelines as pipelines
assert fastcifar.__file__.startswith({str(place)!r}), fastcifar.__file__
print(reference.__name__, reference.__file__)
print(pipelines.__name__, next(iter(pipelines.__path__)))
print(sorted({{"kernels", "pipelines"}} & set(sys.modules)))
"""
    inside = place / "fastcifar" if reached == "installed" else place
    assert run("-I", "-c", code).splitlines() == [
        f"fastcifar.kernels.reference {inside / 'kernels' / 'reference.py'}",
        f"fastcifar.pipelines {inside / 'pipelines'}",
        "[]",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("python", [sys.executable, *filter(None, os.environ.get(PYTHONS, "").split(os.pathsep))])
def test_the_wheel_runs_the_demo_elsewhere(
    python: str, distributions: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an environment that has the wheel and sees the libraries of ``python``, outside the checkout."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    place = tmp_path / "environment"
    subprocess.run([python, "-m", "venv", "--without-pip", place], check=True)
    run("-m", "pip", "--python", place / "bin" / "python", "install", "--no-index", "--no-deps", distributions[1])
    where = [place / "bin" / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    libraries = subprocess.run([python, *where[1:]], capture_output=True, text=True, check=True).stdout
    own = Path(subprocess.run(where, capture_output=True, text=True, check=True).stdout.strip())
    (own / "libraries.pth").write_text(libraries)  # without the editable install's own .pth, which lies in there
    (tmp_path / "elsewhere").mkdir()
    ran = subprocess.run(
        [place / "bin" / "fastcifar", "--debug", "demo"],
        cwd=tmp_path / "elsewhere",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "picture: demo/curves.png\n" in ran.stdout
    assert (tmp_path / "elsewhere" / "demo" / "curves.png").stat().st_size > 10_000
    assert (own / "fastcifar" / "kernels" / "reference.py").exists()
    for label in ("resident", "DataLoader"):
        assert re.search(rf"^{label} +[\d,]+ █+$", ran.stdout, re.MULTILINE), ran.stdout
    assert "made the same batches" in ran.stdout


def test_the_release_has_one_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["cff-version"] == "1.2.0"
    assert cited["version"] == fastcifar.__version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## {fastcifar.__version__} - {cited['date-released']}\n" in changes
    assert {"message", "title", "authors"} <= set(cited)  # the keys that CFF 1.2.0 requires
    assert cited["license"] == "MIT"


def test_no_run_id_depends_on_the_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = convert("synthetic:50", tmp_path / "before").sha256, SPEC.run_id
    for module in ("fastcifar.version", "fastcifar", "fastcifar.data.manifest"):
        monkeypatch.setattr(f"{module}.__version__", "9.9.9")
    after = convert("synthetic:50", tmp_path / "after")
    assert after.manifest["tools"]["fastcifar"] == "9.9.9"
    assert (after.sha256, replace(SPEC).run_id) == before


def test_the_two_top_level_folders_are_no_packages() -> None:
    assert not (ROOT / "kernels" / "__init__.py").exists()
    assert not (ROOT / "pipelines" / "__init__.py").exists()


@pytest.mark.whole
def test_the_command_is_a_function_of_the_package(installed: Path) -> None:
    entries = ConfigParser()
    entries.read(next(installed.glob("*.dist-info")) / "entry_points.txt")
    module, _, function = entries["console_scripts"]["fastcifar"].partition(":")
    source = (installed / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    assert function in {node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
