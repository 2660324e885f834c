"""The suspects: the possible reasons of an unstable validation loss, by name. This module needs no torch."""

from types import MappingProxyType

from fastcifar.errors import UsageError, unknown
from fastcifar.show.text import parts

DRIFT, STATISTICS, SPLIT, WEIGHTS = "drift", "statistics", "split", "weights"

TITLES = MappingProxyType(
    {
        DRIFT: "drift of the running statistics",
        STATISTICS: "replaced statistics",
        SPLIT: "a split for each seed",
        WEIGHTS: "all weights trained",
    }
)
"""The title of each suspect, in the order of the output.

drift: every batch in training mode moves BatchNorm's running statistics, which evaluation uses. statistics: in the end
they are no longer those of the pretraining. split: each seed draws the training and the validation images anew.
weights: the optimizer trains all weights, not only those of the last layer.
"""


def suspects_of(text: str) -> list[str]:
    """Return the names in a comma-separated list, each once, in the order of TITLES.

    Raises UsageError for a list without a name, or with an unknown one.
    """
    asked = parts(text)
    for name in asked:
        if name not in TITLES:
            raise unknown("suspect", name, TITLES)
    if not asked:
        raise UsageError(f"--suspects {text!r} names none; choose some of {', '.join(TITLES)}")
    return [name for name in TITLES if name in asked]
