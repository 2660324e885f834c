"""Tensors on their way to a run's files."""

import torch

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


def test_tensors_in_host_memory_are_not_copied():
    tensor = torch.ones(3)
    assert on_host({"it": tensor})["it"].data_ptr() == tensor.data_ptr()
