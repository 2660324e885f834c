"""Running statistics of several momenta at once."""

from math import sqrt

import pytest
import torch

from fastcifar.diagnose.running import Running
from fastcifar.errors import UsageError


def test_statistics_of_each_momentum_are_those_of_a_network_with_it():
    batches = torch.randn(5, 8, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 + 1
    shared = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    running = Running(shared, "it", [0.1, 0.7])
    for batch in batches:
        shared(batch)
        running.take()
    for momentum in (0.1, 0.7):
        alone = torch.nn.BatchNorm2d(3, momentum=momentum)
        for batch in batches:
            alone(batch)
        running.put(momentum)
        torch.testing.assert_close(shared[0].running_mean, alone.running_mean)
        torch.testing.assert_close(shared[0].running_var, alone.running_var)


def test_how_far_statistics_moved_by_hand():
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(2, eps=0.0), torch.nn.BatchNorm2d(1, eps=1.0))
    network[0].running_var.copy_(torch.tensor([4.0, 1.0]))
    network[1].running_var.fill_(8.0)
    running = Running(network, "it", [1.0])
    assert running.moved(1.0).tolist() == [0, 0]
    network[0].running_mean.copy_(torch.tensor([3.0, -0.5]))
    network[1].running_mean.fill_(6.0)
    network[1].running_var.fill_(100.0)
    running.take()
    assert running.moved(1.0).tolist() == pytest.approx([(3 / 2 + 0.5 / 1) / 2, 6 / sqrt(8 + 1)])


def test_a_network_without_running_statistics_is_refused():
    for network in (torch.nn.Linear(1, 1), torch.nn.BatchNorm1d(1, track_running_stats=False)):
        with pytest.raises(UsageError, match="it has no BatchNorm with running statistics, which this"):
            Running(network, "it")
