"""File locks: the module ``fcntl``, which Windows does not have. Every other module imports it from here."""

import platform

from fastcifar.errors import UsageError

try:
    import fcntl as fcntl
except ImportError as error:
    raise UsageError(
        f"fastcifar needs Linux, and this is {platform.system() or 'another system'}, which has no fcntl to lock the "
        "directory of a run with; on Windows install WSL 2 (wsl --install) and use fastcifar there as on Linux"
    ) from error
