"""The sources of a module: what its import statements run beside it, and nothing else."""

import pytest

from fastcifar.models.source import digest_of, sources_of


@pytest.fixture
def base(tmp_path):
    def write(tree):
        for name, text in tree.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path

    return write


def test_a_module_and_what_it_imports_beside_it(base):
    folder = base({
        "net.py": "import torch, os.path\nimport blocks\ndef f():\n    from tools import deep",
        "blocks.py": "import net  # a circle", "tools/__init__.py": "", "tools/deep.py": "", "tools/other.py": "",
        "torch.txt": "", "unused.py": "",
    })  # fmt: skip
    assert set(sources_of("net", folder)) == {"net", "blocks", "tools", "tools.deep"}


def test_relative_imports_of_a_package(base):
    folder = base({
        "pack/__init__.py": "from . import setup", "pack/setup.py": "", "pack/nets/__init__.py": "",
        "pack/nets/mine.py": "from ..layers import *\nfrom .near import value\nfrom .. import helper",
        "pack/layers.py": "", "pack/nets/near.py": "", "pack/helper.py": "", "pack/nets/far.py": "",
    })  # fmt: skip
    names = {"", ".setup", ".nets", ".nets.mine", ".layers", ".nets.near", ".helper"}
    assert set(sources_of("pack.nets.mine", folder)) == {f"pack{name}" for name in names}


def test_other_installed_projects_are_left_out(base):
    folder = base({"site-packages/mine.py": "import other", "site-packages/other.py": ""}) / "site-packages"
    assert set(sources_of("mine", folder)) == {"mine"}


def test_a_digest_is_of_names_and_contents():
    assert digest_of({"a": b"1", "b": b"2"}) == digest_of({"b": b"2", "a": b"1"})
    assert len({digest_of(each) for each in ({"a": b"12"}, {"a": b"1"}, {"b": b"12"}, {"a": b"1", "b": b"2"})}) == 4
