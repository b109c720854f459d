"""Values of options that several commands read alike; light to import."""

from __future__ import annotations

from fractions import Fraction

import typer


def parse_rate(text: str) -> float:
    """Frames per second, as a number or as a ratio such as 24000/1001.

    Raises:
        typer.BadParameter: If the text is neither.
    """
    try:
        return float(Fraction(text)) if "/" in text else float(text)
    except (
        ValueError,
        ArithmeticError,
    ) as error:  # no number; or a ratio to zero, or past what a float holds
        wanted = "a number such as 24 or a ratio such as 24000/1001"
        raise typer.BadParameter(f"{text!r} is not {wanted}") from error
