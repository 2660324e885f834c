"""numba's compiler, with its on-disk cache where the cache can be used and without it elsewhere.

numba itself refuses to compile where none of its folders can be written, and lets an error of the disk or a damaged
file end the program.
"""

from typing import Any

import numba
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    InTreeCacheLocator,
    NullCache,
    UserProvidedCacheLocator,
    UserWideCacheLocator,
)

from fastcifar.show.console import note
from fastcifar.system import caches
from fastcifar.system.once import tell


class _AtHome(UserWideCacheLocator):
    """numba's folder of the user. Without a home folder, numba would make a folder that is called ``~``."""

    @classmethod
    def from_function(cls, py_func, py_file):
        return super().from_function(py_func, py_file) if caches.user_folder() else None


class _Temporary(UserWideCacheLocator):
    """A folder in `caches.temporary`."""

    def __init__(self, py_func, py_file):
        super().__init__(py_func, py_file)
        folder = caches.temporary()
        self._cache_path = folder and str(folder / "numba" / self.get_suitable_cache_subpath(py_file))

    @classmethod
    def from_function(cls, py_func, py_file):
        return super().from_function(py_func, py_file) if caches.temporary() else None


class _Places(CompileResultCacheImpl):
    _locator_classes = (UserProvidedCacheLocator, InTreeCacheLocator, _AtHome, _Temporary)


class _Cache(FunctionCache):
    """The cache of one function. Nothing that goes wrong with its files ends the program."""

    _impl_class = _Places

    def load_overload(self, sig, target_context):
        """Return the compiled function for a signature; None where the cache has none, or where it is damaged."""
        if isinstance(self._impl.locator, _Temporary):
            caches.tell_of_numba(note)
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a damaged pickle can raise any error
            return None

    def save_overload(self, sig, data):
        """Keep a compiled function. Where that fails, say so once."""
        try:
            try:
                super().save_overload(sig, data)
            except OSError:
                raise
            except Exception:  # the index is damaged; without its entries it can be written
                self.flush()
                super().save_overload(sig, data)
        except OSError as error:
            text = f"compiled kernels cannot be kept in {self.cache_path} ({error.strerror or error})"
            cure = f"free some space there, or set {caches.NUMBA} to a folder on another disk"
            tell("full", f"{text}, so each process compiles them again; {cure}", note)


class _Nowhere(NullCache):
    """The cache of a function that no folder can keep."""

    def load_overload(self, sig, target_context):
        caches.tell_of_numba(note)


def kept(**options: Any) -> Any:
    """Return a decorator that compiles as ``numba.njit(cache=True, **options)`` does, where that is possible.

    Where numba can write to no folder of its own, the compiled code is kept in a private folder in the directory of
    temporary files; where that is impossible, too, it is kept nowhere. The user is told once.
    """

    def compiled(function):
        dispatcher = numba.njit(**options)(function)
        try:
            dispatcher._cache = _Cache(function)  # as its method enable_caching does
        except RuntimeError:  # raised where none of the places can be used
            dispatcher._cache = _Nowhere()
        return dispatcher

    return compiled
