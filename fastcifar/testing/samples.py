"""The clauses on samples: which come, in which order, in which batches and in which process.

A clause returns whether it was applicable, and raises ContractBroken where it does not hold.
"""

from typing import Any

import numpy as np
import torch

from fastcifar.data.dataset import split_of
from fastcifar.pipeline import Batch
from fastcifar.testing.case import Case, order_of


def permutations(case: Case) -> bool:
    shared: dict[str, Any] = {"augment": case.plain, "seed": 1}
    with case.open(**shared) as pipeline:
        orders = {k: order_of(list(pipeline.epoch(k))) for k in (0, 1, 5)}
        again = order_of(list(pipeline.epoch(0)))
    orders[-1] = order_of(case.epoch(0, augment=case.plain, seed=2))
    for ids in orders.values():
        twice = len(ids) - len(set(ids))
        case.require(not twice, f"{twice} samples come twice in an epoch")
        case.require(sorted(ids) == case.training, f"an epoch has {len(ids)} samples of {len(case.training)}")
    case.require(again == orders[0], "epoch 0 has another order when it comes a second time")
    case.require(len({tuple(ids) for ids in orders.values()}) == 4, "two epochs, or two seeds, have the same order")
    other = order_of(case.epoch(5, **shared | {"batch_size": 23}))
    case.require(other == orders[5], "the order of an epoch depends on the batch size, or on the epochs before it")
    return True


def evaluation(case: Case) -> bool:
    for split in ("validation", "labelled", "test"):
        if case.dataset.part(split) not in case.dataset.manifest["counts"]:
            case.skip(f"split {split}: the dataset has no such images")
            continue
        ids = order_of(case.epoch(3, split=split, augment=case.plain))
        wanted = case.dataset.ids(split).tolist()
        case.require(
            sorted(ids) == wanted, f"split {split} has {len(wanted)} samples, and {len(set(ids))} of them come"
        )
        case.require(ids == wanted, f"the samples of split {split} do not come in ascending order")
    return True


def selection(case: Case) -> bool:
    shared: dict[str, Any] = {"augment": case.plain}
    count = case.dataset.manifest["counts"]["train"]
    ids = order_of(case.epoch(split="validation", split_seed=4, **shared))
    case.require(
        ids == np.flatnonzero(split_of(count, 4)).tolist(), "split_seed 4 does not give the split that it draws"
    )
    few = np.array(case.training[3:60:3])
    ids = order_of(case.epoch(subset=few, **shared))
    case.require(sorted(ids) == few.tolist(), "a subset of 19 samples gives others")
    case.require(
        order_of(case.epoch(shuffle=False, **shared)) == case.training, "shuffle=False does not keep the order"
    )
    return True


def last_batch(case: Case) -> bool:
    count = len(case.training)
    size = next(size for size in range(17, count) if count % size)
    for drop in (False, True):
        with case.open(augment=case.plain, batch_size=size, drop_last=drop) as pipeline:
            sizes, length = [len(batch.labels) for batch in pipeline.epoch(0)], len(pipeline)
        wanted = [size] * (count // size) + ([] if drop else [count % size])
        case.require(sizes == wanted, f"with drop_last={drop} the batches have {sizes} samples instead of {wanted}")
        case.require(length == len(wanted), f"len() is {length}, and an epoch has {len(wanted)} batches")
    return True


def labels(case: Case) -> bool:
    for split in ("training", "validation", "test"):
        part = case.dataset.part(split)
        known = case.dataset.labels(part) if part in case.dataset.manifest["counts"] else None
        if known is None:
            case.skip(f"split {split}: the dataset has no labels for it")
            continue
        for batch in case.epoch(split=split):
            wanted, got = known[batch.ids.cpu().numpy()].tolist(), batch.labels.tolist()
            case.require(got == wanted, f"labels of the {split} split are {got[:5]} instead of {wanted[:5]}")
    return True


def start_in_the_middle(case: Case) -> bool:
    for split in ("training", "validation"):
        whole = case.epoch(1, split=split)
        with case.open(split=split) as pipeline:
            for start in sorted({1, len(whole) // 2, len(whole) - 1, len(whole)}):
                rest = list(pipeline.epoch(1, start))
                case.require_equal(
                    rest, whole[start:], f"in an epoch of the {split} split that begins at batch {start}"
                )
    return True


def shares(case: Case) -> bool:
    if not case.type.shares:
        case.skip("its attribute shares is False")
        return False
    for split, ranks in (("training", 2), ("training", 3), ("validation", 3)):
        whole: dict[str, Any] = {"split": split, "batch_size": 8 * ranks}
        expected = case.epoch(1, **whole)
        parts = [case.epoch(1, **whole, shard=(rank, ranks), repeats=False) for rank in range(ranks)]
        for n, batch in enumerate(expected):
            shared = [part[n] for part in parts if n < len(part)]
            sizes = [len(part.ids) for part in shared]
            case.require(max(sizes) - min(sizes) <= 1, f"{ranks} processes have {sizes} samples of a batch")
            together = Batch(*(torch.cat(list(values)) for values in zip(*shared, strict=True)))
            case.require_equal(
                [together], [batch], f"as in one process, when {ranks} share batch {n} of the {split} split"
            )
        lengths = {len(case.epoch(1, **whole, shard=(rank, ranks))) for rank in range(ranks)}
        case.require(lengths == {len(expected)}, f"with repeats=True, {ranks} processes have {lengths} batches")
    return True
