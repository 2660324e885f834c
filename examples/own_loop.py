"""Train your own network in your own loop, and continue after an interruption with the very next batch.

python examples/own_loop.py data/cifar10 --epochs 5
python examples/own_loop.py data/cifar10 --epochs 10 --checkpoint loop.pt     # stop it, and start it again
"""

import argparse
from pathlib import Path

import torch
from torch import nn

import fastcifar

EVERY = 50  # steps between two checkpoints


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a dataset directory, made by fastcifar convert")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--checkpoint", type=Path)
    options = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    training = fastcifar.Loader(options.data, "training", augment="standard", batch_size=256, device=device)
    validation = fastcifar.Loader(options.data, "validation", batch_size=1000, device=device)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(64 * 8 * 8, len(training.dataset.classes)),
    ).to(device, memory_format=torch.channels_last)  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    parts = {"model": model, "optimizer": optimizer, "training": training}

    if options.checkpoint and options.checkpoint.exists():
        for name, state in torch.load(options.checkpoint).items():
            parts[name].load_state_dict(state)
    while training.epoch < options.epochs:
        for step, (images, labels) in enumerate(training, 1):
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if options.checkpoint and step % EVERY == 0:
                torch.save({name: part.state_dict() for name, part in parts.items()}, options.checkpoint)
        with torch.no_grad():
            right = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in validation)
        share = right / len(validation.dataset.ids("validation"))
        print(f"epoch {training.epoch}: loss {loss.item():.3f}, {100 * share:.1f} % right in validation")


if __name__ == "__main__":
    main()
