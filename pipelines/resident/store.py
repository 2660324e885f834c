"""The images and labels of a dataset's part on a device: one copy in a process, for all that make batches of them."""

from threading import Lock
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from torch import Tensor

from fastcifar.data.dataset import Dataset
from fastcifar.data.formats.samples import Samples

Place = tuple[str, torch.device]

_kept: "WeakKeyDictionary[Dataset, WeakValueDictionary[Place, Store]]" = WeakKeyDictionary()
_lock = Lock()


class Store:
    """images: (N, 32, 32, 3) uint8; labels: (N,) int64, -1 where there are none. Whoever uses one keeps it alive."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    @classmethod
    def of(cls, dataset: Dataset, part: str, device: torch.device) -> "Store":
        """The store of a part, "train" or "test", of a Dataset object. Images are copied to the device unless somebody
        uses them there already.

        The runs of a pack share their Dataset: 24 of them need its 154 MB once.
        """
        with _lock:
            here: WeakValueDictionary[Place, Store] = _kept.setdefault(dataset, WeakValueDictionary())
            found = here.get((part, device))
            if found is None:
                samples = Samples(dataset, part)
                # a copy: torch takes no tensor from memory that must not be written to
                images, labels = torch.from_numpy(samples.images.copy()), torch.from_numpy(samples.labels)
                found = here[part, device] = cls(images.to(device), labels.to(device))
            return found

    @classmethod
    def is_kept(cls, dataset: Dataset, part: str, device: torch.device) -> bool:
        """Whether `of` would copy nothing."""
        return (part, device) in _kept.get(dataset, {})
