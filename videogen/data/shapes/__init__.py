"""The shapes world: coloured shapes that move, rendered on the fly with exact captions."""
