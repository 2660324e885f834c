"""The contract suite: a pipeline that breaks a clause is told which one, and how."""

import random
import threading
from itertools import count
from typing import ClassVar

import numpy as np
import pytest
import torch
from support.pipelines import Plain

from fastcifar.data.dataset import Dataset
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.pipeline import Batch
from fastcifar.testing import CLAUSES, ContractBroken, check_pipeline
from fastcifar.testing.images import differing

RECIPES = ("none", "standard")
pytestmark = pytest.mark.whole


def test_a_plain_pipeline_keeps_every_clause_with_a_dataset_of_its_own():
    report = check_pipeline(Plain)
    assert report.checked == tuple(CLAUSES)
    assert report.skipped == ()
    assert str(report).startswith("pipeline Plain\nholds: batches that the caller keeps")


class Alone(Plain):
    shares = False

    @classmethod
    def refuses(cls, request, form):
        return "it cannot crop; choose another recipe" if request.augment.crop else None


def test_what_is_not_applicable_is_reported_with_the_reason(synthetic):
    report = check_pipeline(Alone, synthetic, RECIPES)
    assert set(CLAUSES) - set(report.checked) == {"processes share each batch, and have together what one process has"}
    assert [reason for _, reason in report.skipped] == [
        "recipe standard: it cannot crop; choose another recipe", "its attribute shares is False"
    ]  # fmt: skip
    assert "not checked: processes share each batch" in str(report)


class Twice(Plain):
    def order(self, k):
        order = super().order(k)
        return np.concatenate([order[:1], order[:-1]]) if self.request.shuffles else order


class LeavesOut(Plain):
    def order(self, k):
        return super().order(k)[1:]


class SameOrder(Plain):
    def order(self, k):
        return super().order(0)


class NeverTheSame(Plain):
    calls = count()

    def order(self, k):
        return super().order(k + next(self.calls))


class Backwards(Plain):
    def order(self, k):
        return super().order(k) if self.request.shuffles else super().order(k)[::-1]


class OwnSplit(Plain):
    def order(self, k):
        own = self.request.dataset.ids(self.request.split)
        return super().order(k) if len(own) == len(self.request.ids) and self.request.shuffles else own


class Everyone(Plain):
    def order(self, k):
        if self.request.subset is None:
            return super().order(k)
        return self.request.dataset.ids("training")[: self.request.samples]


class KeepsTheLast(Plain):
    def epoch(self, k, start=0):
        yield from super().epoch(k, start)
        if self.request.drop_last:
            yield self.batch(self.order(k)[len(self) * self.request.share :], k)


class Changed(Plain):
    """Changes each batch."""

    def batch(self, rows, k):
        return self.change(super().batch(rows, k))


class Contiguous(Changed):
    def change(self, batch):
        return batch._replace(images=batch.images.contiguous())


class OneDtype(Changed):
    def change(self, batch):
        return batch._replace(images=batch.images.float())


class Short(Changed):
    def change(self, batch):
        return batch._replace(labels=batch.labels.int())


class NoBatch(Changed):
    def change(self, batch):
        return tuple(batch)


class WrongLabels(Changed):
    def change(self, batch):
        return batch._replace(labels=(batch.labels + 1) % 10)


class Pixels(Changed):
    def change(self, batch):
        images = batch.images.clone()
        images[0, 0, 0, 0] += 0.01
        return batch._replace(images=images)


class NotANumber(Changed):
    def change(self, batch):
        images = batch.images.clone()
        images[0, 0, 0, 0] = float("nan")
        return batch._replace(images=images)


class MoreThanItStates(Pixels):
    differs, deviating = "some values are larger", 1e-9


class OneView(Plain):
    def batch(self, rows, k):
        object.__setattr__(self.request, "augment_seed", None)
        return super().batch(rows, k)


class Trembling(Changed):
    calls = count()
    differs, deviating = "noise", 1.0

    def change(self, batch):
        return batch._replace(images=batch.images + 1e-3 * next(self.calls))


class GlobalDice(Changed):
    def change(self, batch):
        random.random()
        return batch


class TorchDice(Changed):
    def change(self, batch):
        torch.rand(1)
        return batch


class FromTheStart(Plain):
    def epoch(self, k, start=0):
        return super().epoch(k)


class NoStart(Plain):
    def epoch(self, k):
        return super().epoch(k)


class Selfish(Plain):
    def order(self, k):
        order = super().order(k)
        return order if self.request.shard == (0, 1) else order[::-1]


class UsedAgain(Plain):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.buffer = None

    def batch(self, rows, k):
        batch = super().batch(rows, k)
        if self.buffer is None:
            self.buffer = torch.empty_like(batch.images)
        return batch._replace(images=self.buffer[: len(rows)].copy_(batch.images))


class OverwritesAtTheEnd(Plain):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.made = []

    def batch(self, rows, k):
        self.made.append(super().batch(rows, k))
        return self.made[-1]

    def close(self):
        super().close()
        for batch in self.made:
            batch.images.zero_()


class StopsInSilence(Plain):
    turn = None

    def epoch(self, k, start=0):
        self.turn = turn = object()
        for batch in super().epoch(k, start):
            yield batch
            if self.turn is not turn and not self.closed:
                return


class Leaking(Plain):
    ended = threading.Event()

    def __init__(self, *arguments):
        super().__init__(*arguments)
        threading.Thread(target=self.ended.wait, daemon=True).start()


class Remembering(Plain):
    made: ClassVar[list] = []

    def batch(self, rows, k):
        self.made.append(super().batch(rows, k))
        return self.made[-1]


class LeftOpen(Plain):
    """Keeps the memory of ten batches when it is closed."""

    made: ClassVar[list] = []

    def __init__(self, request, form=""):
        super().__init__(request, form)
        self.made.append(torch.ones(10 * request.batch_size, 3, 32, 32))


class NeverClosed(Plain):
    def close(self):
        pass


class ClosedOnce(Plain):
    def close(self):
        if self.closed:
            raise ValueError("already closed")
        super().close()


class Swallowing(Plain):
    def epoch(self, k, start=0):
        try:
            yield from super().epoch(k, start)
        except FastcifarError as error:
            if isinstance(error, UsageError):
                raise


class Vague(Plain):
    def batch(self, rows, k):
        try:
            return super().batch(rows, k)
        except FastcifarError as error:
            raise RuntimeError("something went wrong") from error


BROKEN = [
    (Twice, "training epochs are permutations", "1 samples come twice in an epoch"),
    (LeavesOut, "training epochs are permutations", "an epoch has 79 samples of 80"),
    (SameOrder, "training epochs are permutations", "have the same order"),
    (NeverTheSame, "training epochs are permutations", "epoch 0 has another order when it comes a second time"),
    (Backwards, "evaluation gives each sample once, in order", "do not come in ascending order"),
    (OwnSplit, "the options split_seed, subset and shuffle", "split_seed 4 does not give the split"),
    (Everyone, "the options split_seed, subset and shuffle", "a subset of 19 samples gives others"),
    (KeepsTheLast, "a short last batch is kept or dropped", "with drop_last=True the batches have"),
    (Contiguous, "images have the dtype", "images are not in channels_last memory with the first recipe"),
    (OneDtype, "images have the dtype", "images are torch.float32 with the first recipe and torch.float16"),
    (Short, "images have the dtype", "instead of int64"),
    (NoBatch, "batches that the caller keeps", "it yields tuple instead of Batch"),
    (WrongLabels, "labels are those of the dataset", "labels of the training split are"),
    (Pixels, "pixels are the reference's", "of the values are not the reference's, by up to 0.01, with recipe none"),
    (NotANumber, "pixels are the reference's", "by up to nan"),
    (MoreThanItStates, "pixels are the reference's", "the pipeline states 0.00%"),
    (OneView, "augment_seed changes the augmentation", "augment_seed changes no pixel"),
    (Trembling, "the same request gives the same batches", "the images of batch 0 are not the same in a second"),
    (GlobalDice, "no global generator", "draws from a global generator"),
    (TorchDice, "no global generator", "draws from a global generator"),
    (FromTheStart, "an epoch that begins in its middle", "batches instead of"),
    (NoStart, "an epoch that begins in its middle", "it raises TypeError"),
    (Selfish, "processes share each batch", "are not the same as in one process"),
    (UsedAgain, "batches that the caller keeps", "the images of batch"),
    (OverwritesAtTheEnd, "batches that the caller keeps", "after the pipeline was closed"),
    (StopsInSilence, "a new epoch may begin", "stops in silence instead of raising UsageError"),
    (Leaking, "leaving epochs early", "threads are left after 9 pipelines were closed"),
    (Remembering, "leaving epochs early", "with every epoch that is left early; a batch has 787 kB"),
    (LeftOpen, "leaving epochs early", "with every pipeline that is opened and closed; a batch has 787 kB"),
    (NeverClosed, "a pipeline may be closed twice", "an epoch of a closed pipeline gives a batch"),
    (ClosedOnce, "a pipeline may be closed twice", "it raises ValueError: already closed"),
    (Swallowing, "an error of a worker reaches the caller", "images that cannot be read raise no error"),
    (Vague, "an error of a worker reaches the caller", "which does not say why"),
]


@pytest.mark.parametrize(("broken", "clause", "happened"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_each_clause_can_fail(broken, clause, happened, synthetic):
    try:
        with pytest.raises(ContractBroken) as error:
            check_pipeline(broken, synthetic, RECIPES)
    finally:
        if broken is Leaking:
            Leaking.ended.set()
        Remembering.made.clear()
        LeftOpen.made.clear()
    assert isinstance(error.value, AssertionError)
    assert str(error.value).startswith(f"pipeline {broken.__name__}: {clause}")
    assert happened in str(error.value)


def test_no_clause_is_left_out():
    assert all(any(name.startswith(clause) for _, clause, _ in BROKEN) for name in CLAUSES)


class Refusing(Plain):
    @classmethod
    def refuses(cls, request, form):
        return "it needs a tape drive; buy one"


class Missing(Plain):
    @classmethod
    def missing(cls, form):
        return "library tapes is not installed: pip install tapes"


def test_pipelines_that_cannot_be_checked(synthetic):
    with pytest.raises(UsageError, match=r"'Refusing' cannot be used: it needs a tape drive; buy one"):
        check_pipeline(Refusing, synthetic, RECIPES)
    with pytest.raises(UsageError, match=r"'Missing' cannot be used: library tapes is not installed"):
        check_pipeline(Missing, synthetic, RECIPES)
    with pytest.raises(UsageError, match=r"pipeline 'plian' does not exist"):
        check_pipeline("plian", synthetic)
    few = Dataset.from_arrays(np.zeros((40, 32, 32, 3), np.uint8), np.zeros(40, np.uint8), 10)
    with pytest.raises(UsageError, match=r"the dataset has 32 training images; 64 are needed at least"):
        check_pipeline(Plain, few)


def test_a_value_that_is_no_number_differs():
    from fastcifar.recipes import RECIPES as NAMED

    images = torch.zeros(2, 3, 32, 32)
    images[0, 0, 0, 0], images[1, 2, 3, 4] = float("nan"), 1e-6
    assert differing(images, torch.zeros_like(images), NAMED["none"]).sum() == 1


def test_the_batch_is_a_named_tuple():
    assert Batch._fields == ("images", "labels", "ids")
