"""The running statistics of a network's BatchNorm layers, followed for several momenta at once."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastcifar.errors import UsageError
from fastcifar.training.memory import BATCH_NORM

Values = list[tuple[Tensor, Tensor]]  # the running mean and variance of each layer


class Running:
    """The running statistics that a network would have after the batches so far, for each of several momenta.

    The layers run with momentum 1, so that after a batch in training mode they hold the statistics of that batch alone.
    `take` mixes these into the statistics of each momentum, as BatchNorm does: ``(1 - momentum) old + momentum new``.
    Training mode itself does not use the running statistics, so one forward pass serves all momenta. Where a batch did
    not fit into memory, the statistics are those of its last part.
    """

    def __init__(self, network: nn.Module, name: str, momenta: Sequence[float] = ()) -> None:
        """Copy the initial statistics. Raises UsageError, which mentions ``name``, where the network has none."""
        norms = [module for module in network.modules() if isinstance(module, BATCH_NORM)]
        self._norms = [norm for norm in norms if norm.track_running_stats]
        if not self._norms:
            raise UsageError(
                f"{name} has no BatchNorm with running statistics, which this diagnosis is about; choose resnet18"
            )
        self._initial = self._copied()
        self._of = {momentum: self._copied() for momentum in momenta}
        for norm in self._norms:
            norm.momentum = 1.0

    def take(self) -> None:
        """Mix the statistics of the last batch into those of each momentum."""
        for momentum, values in self._of.items():
            for present, mixed in zip(self._present(), values, strict=True):
                for new, old in zip(present, mixed, strict=True):
                    old.lerp_(new, momentum)

    def put(self, momentum: float) -> None:
        """Give the network the statistics of a momentum. The next batch in training mode replaces them."""
        for present, values in zip(self._present(), self._of[momentum], strict=True):
            for into, tensor in zip(present, values, strict=True):
                into.copy_(tensor)

    def moved(self, momentum: float) -> Tensor:
        """Return (layers,), on the CPU: the distance of each layer's running means from the initial ones.

        The distance is the mean over channels of ``|mean - mean0| / sqrt(var0 + eps)``, in initial standard deviations.
        The drift shifts the output of a layer with weight 1 by this much.
        """
        layers = zip(self._norms, self._of[momentum], self._initial, strict=True)
        return torch.stack(
            [((mean - mean0).abs() / (var0 + norm.eps).sqrt()).mean() for norm, (mean, _), (mean0, var0) in layers]
        ).cpu()

    def _present(self) -> Values:
        return [(norm.running_mean, norm.running_var) for norm in self._norms]  # type: ignore[misc]

    def _copied(self) -> Values:
        return [(mean.clone(), var.clone()) for mean, var in self._present()]
