"""torchvision's parts that fastcifar uses. Every other module imports torchvision's names from here.

A torchvision of another build than torch's raises errors of several kinds on import. This import raises UsageError,
whose message is one sentence with the cure.
"""

from fastcifar.errors import UsageError
from fastcifar.system import cures, machine
from fastcifar.system.foreign import said

try:
    import torchvision as torchvision
    from torchvision.ops import StochasticDepth as StochasticDepth
    from torchvision.transforms import InterpolationMode as InterpolationMode
    from torchvision.transforms.v2 import functional as functional
except (ImportError, RuntimeError, AttributeError, OSError) as error:
    found = machine.version("torchvision")
    fault = f"{found} does not work with torch {machine.version('torch')} ({said(error)})" if found else "is missing"
    raise UsageError(f"torchvision {fault}; {cures.torchvision()}") from error
