"""What is done once a process tree: sentences that a person needs to read once, and other work."""

import os
from collections.abc import Callable

TOLD = "FASTCIFAR_TOLD"
"""The environment variable with the topics that a process or its parents have spoken of, separated by spaces."""
MOST = 64  # words that a variable holds


def tell(topic: str, text: str, say: Callable[[str], None]) -> None:
    """Say a sentence, unless this process or one that started it has said one about the same topic.

    topic: a word. say: a callback for the message to the user.
    """
    if topic not in known(TOLD):
        remember(TOLD, topic)
        say(text)


def known(variable: str) -> list[str]:
    """Return the words that this process, or one that started it, remembered in an environment variable."""
    return os.environ.get(variable, "").split()


def remember(variable: str, word: str) -> None:
    """Add a word to an environment variable, for this process and its children. Of more than MOST, the oldest goes."""
    os.environ[variable] = " ".join([*known(variable)[1 - MOST :], word])
