"""The names of suspects."""

import pytest

from fastcifar.diagnose.suspects import TITLES, suspects_of
from fastcifar.errors import UsageError


def test_names_come_once_and_in_the_order_of_the_output():
    assert suspects_of(",".join(TITLES)) == list(TITLES) == ["drift", "statistics", "split", "weights"]
    assert suspects_of("weights, drift,weights") == ["drift", "weights"]


@pytest.mark.parametrize(
    ("text", "message"), [("drifts", "did you mean 'drift'"), ("", "names none; choose some of drift, statistics,")]
)
def test_other_names_are_refused(text, message):
    with pytest.raises(UsageError, match=message):
        suspects_of(text)
