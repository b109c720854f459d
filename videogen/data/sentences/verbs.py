"""Forms of English verbs."""

from __future__ import annotations

import re

_DOUBLED = frozenset({
    "run", "hop", "spin", "swim", "get", "drop", "sit", "dim", "skip", "bob", "slip", "zip", "pop", "hug",
    "step", "put", "shut", "scan", "trot", "jog", "cut", "let", "set", "win", "plan",
})  # fmt: skip


def inflect(phrase: str, form: str) -> str:
    """A verb phrase in its plain form as `base`, `finite` (third person) or `gerund`."""
    if form == "base":
        return phrase
    verb, _, rest = phrase.partition(" ")
    if verb == "just" or (verb.endswith("ly") and verb != "fly"):
        return f"{verb} {inflect(rest, form)}"
    if verb == "not":
        if rest.startswith("be "):
            return f"{inflect('be', form)} not {rest[3:]}"
        return f"does not {rest}" if form == "finite" else f"not {inflect(rest, 'gerund')}"
    head = {"be": ("is", "being"), "do": ("does", "doing"), "go": ("goes", "going"), "lie": ("lies", "lying"),
            "die": ("dies", "dying"), "have": ("has", "having")}.get(verb)  # fmt: skip
    if head is not None:
        said = head[form == "gerund"]
    elif form == "finite":
        if re.search("[^aeiou]y$", verb):
            said = f"{verb[:-1]}ies"
        else:
            said = f"{verb}es" if re.search("(?:s|x|z|ch|sh)$", verb) else f"{verb}s"
    elif verb in _DOUBLED:
        said = f"{verb}{verb[-1]}ing"
    elif re.search("[^eo]e$", verb):
        said = f"{verb[:-1]}ing"
    else:
        said = f"{verb}ing"
    return f"{said} {rest}".strip()
