"""`Loader`: batches with a state, for anyone's own training loop."""

from fastcifar.loader.loader import Loader

__all__ = ["Loader"]
