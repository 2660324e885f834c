"""Train a small convolutional network on CIFAR-10 in ten epochs, fed by fastcifar.Loader.

    python examples/fast_resnet.py data/cifar10                 # on two CPU cores: ten minutes
    python examples/fast_resnet.py data/cifar10 --epochs 2 --width 0.5

The ideas are those that K. Jordan published with airbench ("94% on CIFAR-10 in 3.29 seconds on a single GPU", 2024,
arXiv:2404.00498), after hlb-CIFAR10 and D. Page's "How to train your ResNet": a first layer that whitens patches of
2 x 2 pixels and is not trained; convolutions that begin as the identity; SGD with Nesterov momentum, a triangular
one-cycle schedule and decoupled weight decay; label smoothing; alternating flips and reflected crops; a slow average
of the weights; and the mean over mirrored and shifted versions of an image at the end.
"""

import argparse
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fastcifar

WIDTHS = (64, 256, 256)  # channels of the three blocks
LR, WEIGHT_DECAY, MOMENTUM = 11.5, 0.0153, 0.85  # the first two are for 1,024 images
BIAS_LR = 64  # the factor on the learning rate of normalisation's biases
PATCH = 2  # side of the whitened patches in pixels


class Conv(nn.Conv2d):
    """A 3 x 3 convolution without bias, which begins as the identity as far as there are channels."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 3, padding=1, bias=False)
        nn.init.dirac_(self.weight[: min(channels_in, channels_out)])


def norm(channels: int) -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(channels, momentum=0.4)
    made.weight.requires_grad = False
    return made


def block(channels_in: int, channels_out: int) -> nn.Sequential:
    first, second = Conv(channels_in, channels_out), Conv(channels_out, channels_out)
    return nn.Sequential(first, nn.MaxPool2d(2), norm(channels_out), nn.GELU(), second, norm(channels_out), nn.GELU())


class FastResNet(nn.Module):
    """The network: (B, 3, 32, 32) normalised images to (B, classes) scores."""

    def __init__(self, classes: int, images: Tensor, width: float = 1.0) -> None:
        """images: (N, 3, 32, 32) float32, normalised, to whiten the patches of. width: a factor on all channels."""
        super().__init__()
        one, two, three = (round(width * channels) for channels in WIDTHS)
        self.whiten = nn.Conv2d(3, 2 * 3 * PATCH**2, PATCH)
        self.whiten.weight = nn.Parameter(whitening(images), requires_grad=False)
        nn.init.zeros_(self.whiten.bias)
        self.blocks = nn.Sequential(block(2 * 3 * PATCH**2, one), block(one, two), block(two, three))
        self.head = nn.Linear(three, classes, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):  # bfloat16's rounding would be whitened, too
            white = F.gelu(self.whiten(images))
        return self.head(self.blocks(white).amax((2, 3))) / 9


def whitening(images: Tensor) -> Tensor:
    """Return the filters (24, 3, 2, 2) that give patches the covariance 1, and their negatives."""
    patches = images.unfold(2, PATCH, 1).unfold(3, PATCH, 1).permute(0, 2, 3, 1, 4, 5).flatten(0, 2).flatten(1)
    values, vectors = torch.linalg.eigh(torch.cov(patches.T.double()))
    filters = (vectors / (values + 5e-4).sqrt()).T.flip(0).float().view(-1, 3, PATCH, PATCH)
    return torch.cat([filters, -filters])


def train(model: nn.Module, training: fastcifar.Loader, epochs: float, smoothing: float = 0.2) -> None:
    """Train for a number of epochs, which may end in the middle of one."""
    steps, batch = round(epochs * len(training)), training.batch_size
    scale = 1024 * (1 + 1 / (1 - MOMENTUM))  # to rates for a sum of losses, independent of the momentum
    lr, decay = LR / scale, WEIGHT_DECAY * batch / scale
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    biases = {id(module.bias) for module in model.modules() if isinstance(module, nn.BatchNorm2d)}
    groups = [
        {"params": [w for w in trained if id(w) in biases], "lr": lr * BIAS_LR, "weight_decay": decay / (lr * BIAS_LR)},
        {"params": [w for w in trained if id(w) not in biases], "lr": lr, "weight_decay": decay / lr},
    ]
    optimizer = torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(0.2 + 0.8 * step / (0.23 * steps), 0.07 + 0.93 * (1 - step / steps) / 0.77)
    )
    average = {name: value.clone() for name, value in model.state_dict().items() if value.is_floating_point()}
    step, device = 0, training.device.type
    while step < steps:
        start = time.perf_counter()
        for images, labels in training:
            with torch.autocast(device, torch.bfloat16):
                scores = model(images)
            F.cross_entropy(scores.float(), labels, label_smoothing=smoothing, reduction="sum").backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            step += 1
            if step % 5 == 0:
                follow(model, average, 0.95**5 * (step / steps) ** 3)
            if step == steps:
                break
        print(f"step {step:,} of {steps:,}, {time.perf_counter() - start:.1f} s for this epoch", flush=True)
    follow(model, average, 1.0)


@torch.no_grad()
def follow(model: nn.Module, average: dict[str, Tensor], decay: float) -> None:
    """Move the slow average towards the weights, and set the weights to the average (M. Zhang et al., Lookahead)."""
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            if decay < 1:
                average[name].lerp_(value, 1 - decay)
            value.copy_(average[name])


@torch.no_grad()
def accuracy(model: nn.Module, evaluation: fastcifar.Loader) -> float:
    """Return the share of right answers in [0, 1], of the mean over mirrored and shifted versions of each image."""
    model.eval()
    right = 0
    for images, labels in evaluation:
        padded = F.pad(images, (1, 1, 1, 1), "reflect")
        shifted = padded[:, :, :32, :32], padded[:, :, 2:, 2:]
        with torch.autocast(images.device.type, torch.bfloat16):
            scores = sum(
                weight * (model(version) + model(version.flip(3)))
                for weight, version in zip((2, 1, 1), (images, *shifted), strict=True)
            )
        right += int((scores.argmax(1) == labels).sum())
    return right / len(evaluation.dataset.ids("validation"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a dataset directory, made by fastcifar convert")
    parser.add_argument("--epochs", type=float, default=9.9)
    parser.add_argument("--width", type=float, default=1.0, help="a factor on the channels of all layers")
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    seeds = {"seed": options.seed, "augment": "airbench94"}
    training = fastcifar.Loader(options.data, batch_size=options.batch_size, drop_last=True, **seeds)
    evaluation = fastcifar.Loader(options.data, "validation", augment="cifar10", batch_size=1000)
    start = time.perf_counter()
    some, _ = next(iter(fastcifar.Loader(options.data, augment="cifar10", batch_size=5000, device="cpu")))
    model = FastResNet(len(training.dataset.classes), some, options.width)
    model = model.to(training.device, memory_format=torch.channels_last)
    train(model, training, options.epochs)
    seconds = time.perf_counter() - start
    print(
        f"{100 * accuracy(model, evaluation):.2f} % right in validation, after {seconds / 60:.1f} minutes of training"
    )


if __name__ == "__main__":
    main()
