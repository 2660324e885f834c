"""fastcifar: a proven-equal data-pipeline benchmark and a fast CIFAR-10 trainer.

``fastcifar.pipelines`` and ``fastcifar.kernels`` live in ``pipelines/`` and ``kernels/`` at the top of a checkout.
An installed package has them as sub-folders; an uninstalled checkout finds them through the bridge below.
"""

from pathlib import Path

__version__ = "0.1.0"

_package = Path(__file__).resolve().parent
if not (_package / "kernels").is_dir():  # an uninstalled or editable checkout
    __path__.append(str(_package.parent))
