"""Modules of other people, by name or by file."""

import sys

import pytest
from support.own import write as write

from fastcifar.errors import UsageError
from fastcifar.system import foreign


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])


def test_a_module_by_name_and_by_file(write, tmp_path, monkeypatch):
    write("inner.one", "x = 1\n_hidden = 2\ndef f(): pass\n")
    assert foreign.imported("inner.one", "test").x == 1
    monkeypatch.chdir("/")
    two = write("two", "x = 2\n")
    assert foreign.imported(str(two), "test").x == 2
    assert str(tmp_path) in sys.path  # for worker processes
    assert foreign.public(foreign.imported("inner.one", "test"), callable) == ["f"]


def test_a_module_of_another_name_is_not_taken_for_the_file(write):
    write("json", "x = 1\n")
    with pytest.raises(UsageError, match=r"loader: json.py has the name of another module, json; rename the file"):
        foreign.imported("json.py", "loader")


def test_modules_that_cannot_be_imported(write):
    with pytest.raises(foreign.NoSuchModule, match="there is no module nowhere in the current directory"):
        foreign.imported("nowhere", "test")
    with pytest.raises(foreign.NoSuchModule):
        foreign.imported("nowhere.at.all", "test")
    write("needs", "import nowhere\n")
    with pytest.raises(UsageError, match="test: needs imports nowhere, which is not installed; install it"):
        foreign.imported("needs", "test")
    write("ends", "import sys\n\nsys.exit('no')\n")
    with pytest.raises(UsageError, match=r"the import of ends raises SystemExit: no, ends.py line 3; repair it"):
        foreign.imported("ends", "test")


def test_the_line_of_an_error_that_says_most():
    assert foreign.said(ValueError("first\nsecond")) == "ValueError: first"
    assert foreign.said(ValueError()) == "ValueError"
    worker = RuntimeError("Caught it in worker 0.\nOriginal Traceback (most recent call last):\n  f()\nKeyError: 3\n")
    assert foreign.said(worker) == "KeyError: 3 (in a worker process)"
    assert foreign.place_of(ValueError("never raised")) == ""


def test_what_does_not_exist_is_refused_without_an_import(write):
    write("ends", "import sys\n\nsys.exit('no')\n")
    foreign.require("ends", "test")
    foreign.require("ends.py", "test")
    assert "ends" not in sys.modules
    for name in ("nowhere", "nowhere.at.all"):
        with pytest.raises(foreign.NoSuchModule, match=f"test: there is no module {name} in the current directory"):
            foreign.require(name, "test")
    with pytest.raises(UsageError, match=r"test: there is no file end.py; did you mean 'ends.py'"):
        foreign.require("end.py", "test")
