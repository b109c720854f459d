"""The emoji world: animated subjects over coloured backgrounds, composed on the fly with exact captions."""
