"""Options that are lists: what is read from them, and how it is said that they are none."""

import pytest

from fastcifar.cli.options import integers, listed, positive
from fastcifar.errors import UsageError


def test_a_list_is_read_part_by_part():
    assert listed("a, b,,c ,", "--of", str.upper, "letters") == ["A", "B", "C"]
    assert listed("0.1,1e-2", "--momenta", float, "numbers") == [0.1, 0.01]
    assert listed("", "--momenta", float, "numbers") == []
    with pytest.raises(UsageError, match=r"^--momenta '0.1,fast' is not a list of numbers such as 0\.1,0\.01$"):
        listed("0.1,fast", "--momenta", float, "numbers such as 0.1,0.01")


def test_integers_are_different_and_there_is_one():
    assert integers("2, 0,1") == [2, 0, 1]
    assert integers("-3") == [-3]
    for text in ("", ",", "1,1", "1,one", "1.5"):
        with pytest.raises(UsageError, match=f"^--tries '{text}' is not a list of different integers such as 0,1,2$"):
            integers(text, "--tries")


def test_sizes_are_positive():
    assert listed("64,512,64", "--batch-sizes", positive, "positive integers") == [64, 512, 64]
    for text in ("0", "64,-1", "64,x", "6.4"):
        with pytest.raises(UsageError, match=f"^--batch-sizes '{text}' is not a list of positive integers$"):
            listed(text, "--batch-sizes", positive, "positive integers")
