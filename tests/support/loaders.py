"""A module with loaders of one's own, as ``fastcifar bench --loader`` takes them."""

LOADERS = """
import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from fastcifar import Dataset

MEAN, STD = torch.tensor([0.49, 0.48, 0.45]).view(3, 1, 1), torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1)


def arrays(path):
    dataset = Dataset.open(path)
    images = torch.from_numpy(np.array(dataset.images("train"))).permute(0, 3, 1, 2)
    return images, torch.from_numpy(dataset.labels("train").astype("int64"))


def with_ids(path, batch_size, device):
    assert device == "cpu"
    images, labels = arrays(path)
    for ids in torch.randperm(len(images)).split(batch_size):
        yield (images[ids].float() / 255 - MEAN) / STD, labels[ids], ids


def make(path, batch_size, device):
    images, labels = arrays(path)
    return DataLoader(TensorDataset((images.float() / 255 - MEAN) / STD, labels), batch_size, shuffle=True)


def bytes_(path, batch_size, device):
    images, labels = arrays(path)
    return [(images[:batch_size], labels[:batch_size])]


def half(path, batch_size, device):
    return [(images.bfloat16(), labels.numpy()) for images, labels in make(path, batch_size, device)]


def flipped(path, batch_size, device):
    return [(images.flip(3), labels) for images, labels in make(path, batch_size, device)]


def mislabelled(path, batch_size, device):
    return [(images, (labels + 1) % 10) for images, labels in make(path, batch_size, device)]


def mislabelled_ids(path, batch_size, device):
    return [(images, (labels + 1) % 10, ids) for images, labels, ids in with_ids(path, batch_size, device)]


def twice(path, batch_size, device):
    return 2 * list(with_ids(path, batch_size, device))[:1]


def strange_ids(path, batch_size, device):
    return [(images, labels, ids + 50) for images, labels, ids in with_ids(path, batch_size, device)]


def large(path, batch_size, device):
    return [(torch.zeros(batch_size, 3, 40, 40), torch.zeros(batch_size))]


def broken(path, batch_size, device):
    return [(images * float("nan"), labels) for images, labels in make(path, batch_size, device)]


def mixed(path, batch_size, device):
    return [(images, torch.eye(10)[labels]) for images, labels in make(path, batch_size, device)]


def raises_at_once():
    raise ValueError("no disk")


def raises_later():
    yield torch.zeros(4, 3, 32, 32), torch.zeros(4)
    raise ValueError("no disk")


class Broken(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, row):
        raise KeyError("row 7 is missing")


def raises_in_a_worker():
    return DataLoader(Broken(), 16, num_workers=1)


def fills_shared_memory(path, batch_size, device):
    yield from make(path, batch_size, device)
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_9_2_0>: No space left on device (28)")


def nothing():
    return []


def number():
    return 3


def numbers():
    return [3]


def dictionary():
    return [{"image": 1, "label": 2}]


def texts():
    return [("a", "b")]


def pairs():
    return [(torch.zeros(4, 32, 32, 3), torch.zeros(4))]


def no_ids():
    return [(torch.zeros(4, 3, 32, 32), torch.zeros(4), torch.zeros(4))]


def two(path, batch_size):
    return []
"""
