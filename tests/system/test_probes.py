"""Kept answers: asked once, asked again when something changes, and never believed when they are damaged."""

import sys

import pytest

from fastcifar.system import probes


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fastcifar" / "question.json"


def ask_with(answers, depends=()):
    return probes.kept("question", lambda: answers.pop(0), lambda answer: isinstance(answer, str), depends)


def test_a_question_is_asked_once():
    assert ask_with(["yes"]) == "yes"
    assert ask_with([]) == "yes"


def test_it_is_asked_again_when_a_package_is_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site")])
    assert ask_with(["before"]) == "before"
    (tmp_path / "site" / "new-1.0.dist-info").mkdir(parents=True)
    assert ask_with(["after"]) == "after"
    assert ask_with([]) == "after"


def test_it_is_asked_again_when_a_file_changes(tmp_path):
    file = tmp_path / "pipeline.py"
    file.write_text("one")
    assert ask_with(["one"], [file]) == "one"
    assert ask_with([], [file]) == "one"
    file.write_text("two")
    assert ask_with(["two"], [file]) == "two"


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b"\xff", b'{"key": 1}', b"[" * 100_000])
def test_a_damaged_answer_is_asked_for_again(content, cache):
    assert ask_with(["yes"]) == "yes"
    cache.write_bytes(content)
    assert ask_with(["again"]) == "again"


def test_an_answer_of_another_kind_is_asked_for_again(cache):
    assert ask_with(["yes"]) == "yes"
    cache.write_text(cache.read_text().replace('"yes"', "7"))
    assert ask_with(["again"]) == "again"


def test_without_a_folder_that_can_be_written_it_is_asked_each_time(cache):
    cache.parent.parent.mkdir()
    cache.parent.write_text("a file in the way")
    assert ask_with(["one"]) == "one"
    assert ask_with(["two"]) == "two"
