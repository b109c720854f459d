"""Slips of the fingers, as people make them on a keyboard."""

from __future__ import annotations

from random import Random

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBOURS: dict[str, str] = {
    letter: row[max(0, idx - 1) : idx]
    + row[idx + 1 : idx + 2]
    + "".join(other[idx : idx + 1] for other in _ROWS[max(0, rank - 1) : rank + 2] if other != row)
    for rank, row in enumerate(_ROWS)
    for idx, letter in enumerate(row)
}


def misspell(word: str, rng: Random) -> str:
    """The word with one slip: two letters swapped, one left out, doubled, or a neighbour's key pressed.

    The first letter is hit more rarely than others. A word of one letter stays as it is.
    """
    if len(word) < 2:
        return word
    place = rng.randrange(len(word)) if rng.random() < 0.2 else rng.randrange(1, len(word))
    letter = word[place]
    slip = rng.randrange(5)
    if slip == 0:
        place = min(place, len(word) - 2)
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    if slip == 1:
        return word[:place] + word[place + 1 :]
    if slip == 2:
        return word[:place] + letter + word[place:]
    wrong = rng.choice(_NEIGHBOURS.get(letter, letter))
    return word[:place] + wrong + word[place + (slip == 3) :]  # pressed instead, or as well
