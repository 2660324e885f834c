"""The images and labels of a dataset's part on a device. All pipelines of a process share one copy."""

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
    """The images (N, 32, 32, 3) uint8 and labels (N,) int64 of a part, on a device. A missing label is -1.

    A store is freed when its last user drops it.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    @classmethod
    def of(cls, dataset: Dataset, part: str, device: torch.device) -> "Store":
        """Return the store of a part, "train" or "test", of a Dataset object.

        The images are copied to the device unless a store of the same object is there already. The runs of a pack share
        their Dataset: 24 runs need its 154 MB once.
        """
        with _lock:
            here: WeakValueDictionary[Place, Store] = _kept.setdefault(dataset, WeakValueDictionary())
            store = here.get((part, device))
            if store is None:
                samples = Samples(dataset, part)
                # torch warns about read-only memory, so it gets a copy
                images, labels = torch.from_numpy(samples.images.copy()), torch.from_numpy(samples.labels)
                store = here[part, device] = cls(images.to(device), labels.to(device))
            return store

    @classmethod
    def is_kept(cls, dataset: Dataset, part: str, device: torch.device) -> bool:
        """Return whether a store of this part is on the device, so that `of` would copy nothing."""
        return (part, device) in _kept.get(dataset, {})
