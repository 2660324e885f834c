"""Runs of before version 0.3 get seals, and so does each of their files of tensors."""

import numpy as np
from support.seals import unseal
from support.written_runs import rising, spec_of, write_run

from fastcifar.report.predictions import FILES, Predictions
from fastcifar.runs.record import read_runs
from fastcifar.runs.sealing import seal_runs


def test_all_predictions_are_sealed_with_their_run(tmp_path):
    right = np.arange(30) % 3 > 0
    directory = write_run(tmp_path, spec_of(), rising(0.5), right=right, test=right)
    unseal(directory.path)
    assert seal_runs(tmp_path) == ([directory.path.name], [])
    (record,) = read_runs(tmp_path).records
    assert record.checked == "sealed later"
    for split in FILES:
        assert np.array_equal(Predictions.read(record.directory, split).right(), right)
