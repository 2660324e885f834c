"""Philox against its authors' vectors, and the orders made of it."""

import numpy as np
import pytest
import torch
from fastcifar.kernels.cpu.dice import philox
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcifar.errors import UsageError
from fastcifar.rng.philox import Stream, key_of, permutation, philox4x32, rounds, scaled, shuffled, words

U32 = st.integers(0, 2**32 - 1)

# Random123 1.14, tests/kat_vectors, philox4x32 10: counter, key, result
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word, 16) for word in text.split())


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_known_answers(counter, key, result):
    c, k = numbers(counter), numbers(key)
    assert tuple(map(int, philox4x32(c, k))) == numbers(result)
    assert philox(c[0], c[1], c[2], c[3], np.uint64(k[0] | k[1] << 32)) == numbers(result)


@settings(deadline=None)
@given(counter=st.tuples(U32, U32, U32, U32), seed=st.integers(0, 2**64 - 1))
def test_numpy_numba_and_torch_agree(counter, seed):
    expected = tuple(map(int, philox4x32(counter, key_of(seed))))
    assert philox(*counter, np.uint64(seed)) == expected
    tensors = tuple(torch.tensor([word]) for word in counter)
    assert tuple(int(word) for word in rounds(tensors, key_of(seed))) == expected


def test_words_put_id_epoch_stream_block_and_seed_where_the_format_says():
    here = words(0x1_0000_0002, Stream.ERASE, np.array([7, 8]), epoch=9, block=3)
    assert [int(word[1]) for word in here] == [int(w) for w in philox4x32((8, 9, 2, 3), (2, 1))]


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seeds_out_of_range_are_refused(seed):
    with pytest.raises(UsageError, match=str(seed)):
        key_of(seed)


@given(word=U32, n=st.integers(0, 2**31))
def test_scaled_is_the_floor_of_the_share(word, n):
    assert int(scaled(word, n)) == n * word // 2**32


@given(n=st.integers(0, 300), seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 2**32 - 1))
def test_permutation_is_one(n, seed, epoch):
    order = permutation(n, seed, Stream.ORDER, epoch)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))


def test_permutations_differ_by_seed_epoch_and_stream_and_repeat():
    orders = [permutation(50, *which).tolist() for which in ((0, 3, 0), (1, 3, 0), (0, 4, 0), (0, 3, 1))]
    assert len(set(map(tuple, orders))) == 4
    assert orders[0] == permutation(50, 0, 3, 0).tolist()


def test_golden_permutation():
    assert permutation(10, 0, Stream.ORDER).tolist() == [7, 4, 5, 6, 1, 9, 8, 2, 3, 0]


@given(kept=st.sets(st.integers(0, 99), max_size=60))
def test_ids_keep_their_relative_order_whoever_else_is_shuffled(kept):
    everyone = shuffled(np.arange(100), 5, Stream.ORDER, 2)
    some = shuffled(np.array(sorted(kept), np.int64), 5, Stream.ORDER, 2)
    assert some.tolist() == [n for n in everyone.tolist() if n in kept]


def test_first_places_of_permutations_are_uniform():
    firsts = np.bincount([permutation(8, seed, Stream.ORDER)[0] for seed in range(2000)], minlength=8)
    assert ((firsts - 250) ** 2 / 250).sum() < 29.9  # chi-squared, 7 degrees of freedom: 1 in 10,000
