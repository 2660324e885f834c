"""Tensors on their way to a run's files."""

import torch

from fastcifar.runs import files
from fastcifar.runs.files import gathered, on_host


def test_tensors_of_a_device_come_together_and_unchanged():
    torch.manual_seed(0)
    tensors = {
        "weight": torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last),
        "transposed": torch.randn(5, 2).T,
        "step": torch.tensor(7.0),
        "count": torch.tensor([2**40, -1]),
        "low": torch.randn(3).bfloat16(),
        "none": torch.empty(0, 3),
        "needs": torch.ones(2, requires_grad=True),
    }
    made = gathered(tensors)
    assert made.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(made[name], tensor)
        assert (made[name].dtype, made[name].shape) == (tensor.dtype, tensor.shape)
        assert made[name].is_contiguous()
        assert not made[name].requires_grad
    # a dtype's tensors are parts of one copy
    assert made["weight"].untyped_storage().data_ptr() == made["step"].untyped_storage().data_ptr()


class Elsewhere:
    """A stand-in for a tensor of a device."""

    device = torch.device("cuda")

    def __init__(self, size):
        self.nbytes, self.copied = size, False

    def detach(self):
        return self

    def cpu(self):
        self.copied = True
        return torch.zeros(1)


def test_only_small_tensors_of_a_device_come_together(monkeypatch):
    """Together they take memory on the device, which may be full."""
    monkeypatch.setattr(files, "gathered", lambda tensors: {key: torch.ones(1) for key in tensors})
    tensors = {"small": Elsewhere(files.SMALL), "large": Elsewhere(files.SMALL + 1), "here": torch.full((1,), 2.0)}
    made = on_host(tensors)
    assert {key: float(value) for key, value in made.items()} == {"small": 1, "large": 0, "here": 2}
    assert [tensors[key].copied for key in ("small", "large")] == [False, True]


def test_tensors_in_host_memory_are_not_copied():
    tensor = torch.ones(3)
    assert on_host({"it": tensor})["it"].data_ptr() == tensor.data_ptr()
