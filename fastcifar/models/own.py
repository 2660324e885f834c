"""One's own network: ``package.module:factory`` or ``FILE.py:factory``, as `foreign.imported` finds modules.

The factory is called with the number of classes and returns a torch module that takes images (B, 3, S, S) and returns
logits (B, classes).
"""

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.models.dropout import Noise
from fastcifar.models.names import nearest_own, require_own
from fastcifar.models.source import digest_of, sources_of
from fastcifar.rng.generators import seeded
from fastcifar.system.foreign import NoSuchModule, imported, nearest, place_of, public, said

_digests: dict[str, str] = {}  # the SHA-256 of each module's source when it was imported here
alone = threading.RLock()  # modules and global generators belong to the whole process


class Own(nn.Module):
    """One's own network, whose dropout layers use `Noise` in place of the global generator."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        from fastcifar.models.pretrained import CurrentNoise, with_our_noise  # torchvision takes a second to import

        self._now = CurrentNoise()
        self.network = with_our_noise(network, self._now)

    def forward(self, images: Tensor, noise: Noise | None = None) -> Tensor:
        self._now.noise = noise
        try:
            logits: Tensor = self.network(images)
        finally:
            self._now.noise = None
        return logits


def code_of(name: str) -> str:
    """Return the SHA-256 of the source of one's own network. Raises UsageError where it cannot be imported."""
    with alone:
        return _factory(name)[1]


def build_own(name: str, classes: int, seed: int, code: str, new_head: bool = False) -> nn.Module:
    """Return one's own network, with the initial weights that its factory draws from torch's, numpy's and Python's
    global generators, each seeded with ``seed``. Their states are then as before.

    code: the result of `code_of` that the run was made with. new_head: return a `Pretrained`, whose last layer is a new
    one; else an `Own`. Raises FastcifarError where the source is another one now, and UsageError where the network
    cannot be made, or its last layer cannot be replaced.
    """
    with alone, seeded(seed, seed % (1 << 32)):
        network = made(name, classes, code)
        if not new_head:
            return Own(network)
        from fastcifar.models.pretrained import Pretrained  # torchvision takes a second to import

        return Pretrained(network, classes)  # its new layer is drawn from the seeded generator, too


def made(name: str, classes: int, code: str) -> nn.Module:
    """Return what the factory makes. Raises the errors of `build_own`."""
    factory, now = _factory(name)
    if now != code:
        raise FastcifarError(
            f"the code of {name} has changed: the run was made with {code[:12]}, and now it is {now[:12]}; restore "
            "the code, or run the command again, which begins a new run"
        )
    try:
        network = factory(classes)
    except Exception as error:  # foreign code raises errors of any kind
        raise UsageError(
            f"{name}({classes}) raises {said(error)}{place_of(error)}; it is called with the number of classes"
        ) from error
    if not isinstance(network, nn.Module):
        raise UsageError(f"{name}({classes}) returns {network!r:.60}; return a torch.nn.Module")
    return network


def _factory(name: str) -> tuple[Callable[[int], Any], str]:
    """Return the factory of a name, and the SHA-256 of its source. A module that has changed is imported again."""
    place, _, wanted = name.rpartition(":")
    module_name = Path(place).stem if place.endswith(".py") else place
    require_own(name)
    if module_name in sys.modules and _digests.get(module_name) != digest_of(_sources(module_name)):
        for each in _sources(module_name):
            sys.modules.pop(each, None)
    fresh = module_name not in sys.modules
    module = _import(name, place, wanted)
    if fresh:
        _digests[module_name] = digest_of(_sources(module_name))
    factory = getattr(module, wanted, None)
    if factory is None:
        raise UsageError(f"module {place} has no {wanted!r}; {nearest(wanted, public(module, callable))}")
    if not callable(factory):
        raise UsageError(f"{name} is {factory!r:.60}, which cannot be called; name a function or a class")
    return factory, _digests[module_name]


def _import(name: str, place: str, wanted: str) -> ModuleType:
    try:
        return imported(place, f"model {name!r}")
    except NoSuchModule as error:
        raise UsageError(f"{error}; {nearest_own(place, wanted)}") from error


def _sources(module_name: str) -> dict[str, bytes]:
    """Return the sources of an imported module, by `sources_of`."""
    path = Path(sys.modules[module_name].__file__ or "").resolve()
    return sources_of(module_name, path.parents[module_name.count(".") + (path.name == "__init__.py")])
