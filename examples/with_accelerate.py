"""Train with Hugging Face Accelerate, in one or several processes.

    pip install accelerate
    python examples/with_accelerate.py data/cifar10 --epochs 5
    accelerate launch --num_processes 2 examples/with_accelerate.py data/cifar10 --epochs 5

Accelerate shares out only torch's own DataLoader. The Loader shares its batches itself: batch_size is the size of the
batches of all processes together, and the samples of a step are the same for any number of processes.
"""

import argparse

import accelerate
import torch
from torch import nn

import fastcifar


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a dataset directory, made by fastcifar convert")
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()

    accelerate.utils.set_seed(0)  # the same initial weights for any number of processes
    accelerator = accelerate.Accelerator()
    device = accelerator.device
    training = fastcifar.Loader(options.data, "training", augment="standard", batch_size=256, device=device)
    validation = fastcifar.Loader(options.data, "validation", batch_size=1000, device=device)
    network = nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(64 * 8 * 8, len(training.dataset.classes)),
    )  # fmt: skip
    model, optimizer = accelerator.prepare(network, torch.optim.AdamW(network.parameters(), 1e-3))
    accelerator.register_for_checkpointing(training)  # its position is saved by accelerator.save_state()

    while training.epoch < options.epochs:
        for images, labels in training:
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
        right = torch.zeros((), device=device)
        with torch.no_grad():
            for images, labels in validation:
                right += (accelerator.unwrap_model(model)(images).argmax(1) == labels).sum()
        share = float(accelerator.reduce(right)) / len(validation.dataset.ids("validation"))
        accelerator.print(f"epoch {training.epoch}: {100 * share:.1f} % right in validation")
    accelerator.end_training()


if __name__ == "__main__":
    main()
