"""The rule that every prompt and caption follows, wherever it comes from: one line, no control characters."""

from __future__ import annotations

import re
import unicodedata

# Unicode's White_Space. Python also counts the separators 1C to 1F, which are control characters.
_BLANKS = re.compile(r"[^\S\x1c-\x1f]+")


def one_line(text: str, source: str) -> str:
    """The text with each run of blanks as one space, and none at its ends.

    Blanks are spaces of any width, tabs and line breaks. Everything else stays as it is: joiners and
    direction marks belong to the spelling of emoji and of several scripts.

    Args:
        text: A prompt or a caption.
        source: Where it stands, for the message.

    Raises:
        ValueError: If the text holds a control character, which no reader of it expects.
    """
    folded = _BLANKS.sub(" ", text).strip(" ")
    control = next((char for char in folded if unicodedata.category(char) == "Cc"), None)
    if control is not None:
        raise ValueError(f"{source} holds a control character ({control!r})")
    return folded
