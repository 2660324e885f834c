"""The clauses on the content of batches: memory, dtypes and pixels.

A clause returns whether it was applicable, and raises ContractBroken where it does not hold.
"""

from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastcifar.augment import Augment, draw
from fastcifar.kernels import reference
from fastcifar.pipeline import Batch
from fastcifar.testing.case import Case, order_of

ROUNDING = 8e-6
"""Tolerance of a pixel value before normalising, in [0, 1]: the error of float32 arithmetic in another order.

torchvision's enlargement has the largest error (tests/kernels/test_reference.py, RESIZED). One unit in the last place
of the dtype is added to this tolerance."""
COMPARED = 16  # batches of an epoch whose pixels are compared with the reference, which is slow


def differing(images: Tensor, expected: Tensor, spec: Augment) -> Tensor:
    """Return where images differ from the reference's by more than rounding: (B, 3, S, S) bool. NaN differs.

    images, expected: (B, 3, S, S) of one dtype. The tolerance is ROUNDING, and one unit in the last place of the dtype.
    """
    scale = torch.from_numpy(reference.normalisation(spec)[1]).view(3, 1, 1)
    unit = torch.finfo(images.dtype).eps * expected.float().abs()
    return ~((images.float() - expected.float()).abs() <= ROUNDING * scale + unit)


def kept_batches(case: Case) -> bool:
    kept, copies = [], []
    with case.open() as pipeline:
        for batch in pipeline.epoch(0):
            case.require(isinstance(batch, Batch), f"it yields {type(batch).__name__} instead of Batch")
            kept.append(batch)
            copies.append(Batch(*(part.clone() for part in batch)))
        list(pipeline.epoch(1))
        case.require_equal(kept, copies, "later, so that their memory was used again")
    case.require_equal(kept, copies, "after the pipeline was closed, so that their memory was used again")
    return True


def layout(case: Case) -> bool:
    wanted = [("the first recipe", case.plain, dtype) for dtype in case.dtypes]
    wanted += [(f"recipe {name}", spec, case.dtypes[0]) for name, spec in case.specs.items()]
    for name, spec, dtype in wanted:
        for batch in case.epoch(augment=spec, dtype=dtype, subset=np.array(case.training[:24])):
            got, shape = batch.images, (len(batch.ids), 3, spec.out_size, spec.out_size)
            what = f"with {name} and {dtype}"
            case.require(tuple(got.shape) == shape, f"images are {tuple(got.shape)} instead of {shape} {what}")
            case.require(got.dtype == dtype, f"images are {got.dtype} {what}")
            packed = got.is_contiguous(memory_format=torch.channels_last)
            case.require(packed, f"images are not in channels_last memory {what}")
            kinds = batch.labels.dtype, batch.ids.dtype
            case.require(kinds == (torch.int64, torch.int64), f"labels and ids are {kinds} instead of int64")
            devices = {part.device.type for part in batch}
            case.require(devices == {case.device.type}, f"the batch is on {devices} instead of {case.device}")
    return True


def pixels(case: Case) -> bool:
    for name, reason in case.refused.items():
        case.skip(f"recipe {name}: {reason}")
    for name, spec in case.specs.items():
        for dtype in case.dtypes:
            _compare(case, f"with recipe {name} and {dtype}", 9, augment=spec, dtype=dtype, seed=9)
    return True


def views(case: Case) -> bool:
    shared = {"augment": case.fullest, "seed": 9}
    one, other = case.epoch(2, **shared), case.epoch(2, augment_seed=5, **shared)
    case.require(order_of(one) == order_of(other), "augment_seed changes the order")
    if case.fullest.random:
        changed = not all(torch.equal(a.images, b.images) for a, b in zip(one, other, strict=True))
        case.require(changed, "augment_seed changes no pixel")
    _compare(case, "with augment_seed 5", 5, augment_seed=5, **shared)
    return True


def _compare(case: Case, what: str, drawn: int, **request: Any) -> None:
    """Compare pixels of epoch 2 with the reference's, whose draws have the seed ``drawn``."""
    stored = case.dataset.images("train")
    with case.open(**request) as pipeline:
        bound, spec, dtype = (
            0.0 if pipeline.exact else pipeline.deviating,
            pipeline.request.augment,
            pipeline.request.dtype,
        )
        for batch in islice(pipeline.epoch(2), COMPARED):
            rows = batch.ids.cpu().numpy()
            source = torch.from_numpy(np.array(stored[rows]))
            expected = reference.apply(source, draw(spec, drawn, 2, rows), spec, dtype)
            apart = differing(batch.images.cpu(), expected, spec)
            furthest = (batch.images.cpu().float() - expected.float()).abs().max().item()
            case.require(
                apart.float().mean().item() <= bound,
                f"{apart.float().mean():.2%} of the values are not the reference's, by up to {furthest:.3g}, {what}; "
                f"{'the pipeline states that it is exact' if pipeline.exact else f'the pipeline states {bound:.2%}'}",
            )


def repeatable(case: Case) -> bool:
    expected = case.epoch(1, seed=1)
    with case.open(seed=1) as one, case.open(seed=2) as two:
        pairs = list(zip(one.epoch(1), two.epoch(1), strict=True))
    case.require_equal([mine for mine, _ in pairs], expected, "in a second pipeline, with another one open beside it")
    case.require(order_of([other for _, other in pairs]) != order_of(expected), "two seeds have the same order")
    return True
