"""A script for two processes: it trains with a library, and writes the ids that each process got.

python -m torch.distributed.run --nproc-per-node 2 sharing.py LIBRARY DATASET OUT
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from fastcifar.loader import Loader

EPOCHS = 2


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3072, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.flatten(1))


def loaders(data: str) -> list[Loader]:
    """The training and the validation loader. They are made before there is a process group."""
    return [
        Loader(data, split, augment="standard", batch_size=16, device="cpu", seed=1, with_ids=True)
        for split in ("training", "validation")
    ]


def loop(training: Loader, validation: Loader, model: nn.Module, backward: Callable[[Tensor], object]) -> list:
    optimizer, seen = torch.optim.SGD(model.parameters(), 0.01), []
    for _ in range(EPOCHS):
        for images, labels, ids in training:
            optimizer.zero_grad()
            backward(nn.functional.cross_entropy(model(images), labels))
            optimizer.step()
            seen.append(ids.tolist())
        seen.append([ids.tolist() for _, _, ids in validation])
    return seen


def with_ddp(training: Loader, validation: Loader) -> tuple[list, nn.Module]:
    torch.distributed.init_process_group("gloo")
    model = nn.parallel.DistributedDataParallel(Network())
    return loop(training, validation, model, Tensor.backward), model.module


def with_accelerate(training: Loader, validation: Loader) -> tuple[list, nn.Module]:
    import accelerate

    accelerator = accelerate.Accelerator(cpu=True)
    training, validation, model = accelerator.prepare(training, validation, Network())
    return loop(training, validation, model, accelerator.backward), accelerator.unwrap_model(model)


def with_lightning(training: Loader, validation: Loader) -> tuple[list, nn.Module]:
    import lightning

    seen: list = []

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = Network()

        def training_step(self, batch: list[Tensor], _: int) -> Tensor:
            seen.append(batch[2].tolist())
            return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

        def validation_step(self, batch: list[Tensor], number: int) -> None:
            if number == 0:
                seen.append([])
            seen[-1].append(batch[2].tolist())

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.01)

    module = Module()
    lightning.Trainer(
        accelerator="cpu", devices=int(os.environ.get("WORLD_SIZE", "1")), strategy="ddp", max_epochs=EPOCHS,
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0,
    ).fit(module, training, validation)  # fmt: skip
    return seen, module.network


if __name__ == "__main__":
    library, data, out = sys.argv[1:]
    seen, network = {"ddp": with_ddp, "accelerate": with_accelerate, "lightning": with_lightning}[library](
        *loaders(data)
    )
    found = {"seen": seen, "weights": network.layer.weight.sum().item()}
    Path(out, f"{os.environ.get('RANK', '0')}.json").write_text(json.dumps(found))
    if torch.distributed.is_initialized():
        torch.distributed.barrier()  # the file of the other process is written, too
    # DDP's reference cycles keep gloo's threads alive. A thread that needs the GIL while Python ends aborts the process
    # (once in a hundred runs), so the process ends here, without Python's end.
    os._exit(0)
