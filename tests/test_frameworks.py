"""The loader in other people's training loops: Lightning, Accelerate, torch's DDP, and a notebook's process."""

import json
import os
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from support import ROOT
from torch import nn

from fastcifar.loader import Loader

pytestmark = pytest.mark.whole


def missing(library: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(library) is None, reason=f"{library} is not installed")


def run(*command: object) -> str:
    """The output of a Python program that must succeed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    ran = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, check=False, env=environment, timeout=240
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.parametrize(
    "library",
    [
        "ddp",
        pytest.param("accelerate", marks=missing("accelerate")),
        pytest.param("lightning", marks=missing("lightning")),
    ],
)
def test_two_processes_share_the_batches_of_one(library, synthetic, tmp_path):
    script = ROOT / "tests" / "support" / "sharing.py"
    run("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, script, library, synthetic.path, tmp_path)
    one, two = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    training, validation = (
        Loader(synthetic, split, augment="standard", batch_size=16, device="cpu", seed=1, with_ids=True)
        for split in ("training", "validation")
    )
    wanted: list = []
    for _ in range(2):
        wanted += [ids.tolist() for _, _, ids in training]
        wanted.append([ids.tolist() for _, _, ids in validation])
    assert len(one["seen"]) == len(two["seen"]) == len(wanted) == 12
    for left, right, whole in zip(one["seen"], two["seen"], wanted, strict=True):
        if isinstance(whole[0], list):  # validation: each sample once, in order
            assert [a + b for a, b in zip(left, right, strict=True)] == whole
        else:
            assert len(left) == len(right) == 8
            assert not set(left) & set(right)
            assert left + right == whole
    assert one["weights"] == two["weights"]


@missing("lightning")
@pytest.mark.parametrize("stop", [2, 5, 7, 10])
def test_lightning_goes_on_in_the_middle_of_an_epoch(stop, synthetic, tmp_path):
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.network, self.seen = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), []

        def training_step(self, batch, _):
            images, labels, ids = batch
            self.seen.append((self.current_epoch, ids.tolist()))
            return nn.functional.cross_entropy(self.network(images), labels)

        def validation_step(self, batch, _):
            self.log("loss", nn.functional.cross_entropy(self.network(batch[0]), batch[1]))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.01, momentum=0.9)

    class Stop(lightning.Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == stop:
                trainer.save_checkpoint(tmp_path / "stopped.ckpt")
                trainer.should_stop = True
                trainer.limit_train_batches = 0
                raise KeyboardInterrupt

    def fit(callbacks=(), resume=None) -> Module:
        loaders = [
            Loader(synthetic, split, augment="standard", batch_size=16, device="cpu", seed=1, with_ids=True)
            for split in ("training", "validation")
        ]
        module = Module()
        trainer = lightning.Trainer(
            accelerator="cpu", devices=1, max_epochs=3, logger=False, enable_progress_bar=False, callbacks=[*callbacks],
            enable_model_summary=False, enable_checkpointing=False, num_sanity_val_steps=1,
        )  # fmt: skip
        try:
            trainer.fit(module, *loaders, ckpt_path=resume, weights_only=False)
        except (KeyboardInterrupt, SystemExit):
            assert callbacks
        return module

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's own
        whole, part = fit(), fit([Stop()])
        rest = fit(resume=tmp_path / "stopped.ckpt")
    assert len(part.seen) == stop
    assert part.seen + rest.seen == whole.seen
    assert torch.equal(rest.network[1].weight, whole.network[1].weight)


NOTEBOOK = """
import asyncio, torch, fastcifar

def cell(pipeline):
    loader = fastcifar.Loader({data!r}, "train", augment="standard", batch_size=32, pipeline=pipeline, device="cpu")
    return sum(len(labels) for _ in range(2) for images, labels in loader)

async def notebook():
    return await asyncio.gather(*(asyncio.to_thread(cell, name) for name in ("resident", "torchvision")))

print(asyncio.run(notebook()))
"""


def test_a_notebook_s_process_with_a_running_event_loop_and_threads(synthetic, tmp_path: Path):
    """The code comes from a string, so that no script can be imported again, as in a notebook."""
    assert run("-c", NOTEBOOK.format(data=str(synthetic.path))).strip() == "[160, 160]"
