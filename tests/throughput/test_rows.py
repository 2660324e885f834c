"""Files of rows: what cannot be read is refused."""

import pytest

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.throughput import rows


def test_rows_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match="there is no file"):
        rows.read(tmp_path / "none.jsonl")
    (tmp_path / "bad.jsonl").write_text("images\n")
    with pytest.raises(FastcifarError, match="does not hold rows"):
        rows.read(tmp_path / "bad.jsonl")
