"""Train with PyTorch Lightning. A checkpoint in the middle of an epoch continues with the very next batch.

pip install lightning
python examples/with_lightning.py data/cifar10 --epochs 5
python examples/with_lightning.py data/cifar10 --epochs 5 --resume checkpoints/last.ckpt
"""

import argparse

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn, optim

import fastcifar


class Classifier(lightning.LightningModule):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(), nn.Flatten(),
            nn.Linear(64 * 8 * 8, classes),
        )  # fmt: skip

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        images, labels = batch
        return nn.functional.cross_entropy(self.network(images), labels)

    def validation_step(self, batch: list[torch.Tensor], _: int) -> None:
        images, labels = batch
        right = (self.network(images).argmax(1) == labels).float().mean()
        self.log("accuracy", right, prog_bar=True, sync_dist=True, batch_size=len(labels))

    def configure_optimizers(self) -> optim.Optimizer:
        return optim.AdamW(self.parameters(), 1e-3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a dataset directory, made by fastcifar convert")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--resume", help="a checkpoint to continue from")
    options = parser.parse_args()

    training = fastcifar.Loader(options.data, "training", augment="standard", batch_size=256)
    validation = fastcifar.Loader(options.data, "validation", batch_size=1000)
    saving = ModelCheckpoint("checkpoints", save_last=True, every_n_train_steps=50, save_on_train_epoch_end=True)
    trainer = lightning.Trainer(max_epochs=options.epochs, callbacks=[saving], logger=False)
    model = Classifier(len(training.dataset.classes))
    trainer.fit(model, training, validation, ckpt_path=options.resume)
    print(f"accuracy in validation: {100 * float(trainer.callback_metrics['accuracy']):.1f} %")


if __name__ == "__main__":
    main()
