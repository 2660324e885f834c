"""Sentences that a person needs to read once, although several processes come upon their reason."""

import os
from collections.abc import Callable

TOLD = "FASTCIFAR_TOLD"
"""The environment variable with the topics that a process or its parents have spoken of, separated by spaces."""


def tell(topic: str, text: str, say: Callable[[str], None]) -> None:
    """Say a sentence, unless this process or one that started it has said one about the same topic.

    topic: a word. say: a callback for the message to the user.
    """
    told = os.environ.get(TOLD, "").split()
    if topic not in told:
        os.environ[TOLD] = " ".join([*told, topic])
        say(text)
