"""Parts of a dataset, drawn by a seed."""

import numpy as np

from fastcifar.diagnose.sample import Redrawn, Sample, pool_of


def test_a_sample_is_drawn_from_each_split(digits):
    sample = Sample(digits, 40, seed=3)
    for split in ("training", "validation"):
        ids, every = sample.ids(split), digits.ids(split)
        assert len(set(ids)) == 40
        assert set(ids) <= set(every)
        assert list(ids) == sorted(ids)
        assert list(ids) != list(every[:40])
        assert list(ids) != list(Sample(digits, 40, seed=4).ids(split))
        assert list(Sample(digits, 10**6, seed=3).ids(split)) == list(every)
    function, arguments = sample.__reduce__()
    assert function(*arguments).ids("training").tolist() == sample.ids("training").tolist()


def test_a_pool_has_so_many_validation_images_in_every_split(digits):
    pool = pool_of(digits, 40, seed=3)
    assert [len(pool.ids(split)) for split in ("labelled", "training", "validation")] == [200, 160, 40]
    assert len(np.unique(pool.images("train").reshape(200, -1), axis=0)) == 200
    whole = {
        image.tobytes(): label for image, label in zip(digits.images("train"), digits.labels("train"), strict=True)
    }
    for image, label in zip(pool.images("train"), pool.labels("train"), strict=True):
        assert whole[image.tobytes()] == label
    assert pool.sha256 != pool_of(digits, 40, seed=4).sha256
    assert pool_of(digits, None, seed=3) is pool_of(digits, 300, seed=3) is digits


def test_a_redrawn_split_is_that_of_its_seed(digits):
    for dataset in (digits, pool_of(digits, 40, seed=3)):
        drawn = [Redrawn(dataset, seed).ids("validation").tolist() for seed in (0, 1)]
        assert drawn == [dataset.ids("validation", seed).tolist() for seed in (0, 1)]
        assert drawn[0] != drawn[1]
        assert np.array_equal(Redrawn(dataset, 1).ids("labelled"), dataset.ids("labelled"))
        assert np.array_equal(Redrawn(dataset, 1).images("train"), dataset.images("train"))
