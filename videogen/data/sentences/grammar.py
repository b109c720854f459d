"""Says a scene in natural English, in many forms of sentence, with slips of the keyboard where asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from videogen.data.emoji.names import article
from videogen.data.sentences import words
from videogen.data.sentences.typing_errors import misspell

_DOUBLED = frozenset({
    "run", "hop", "spin", "swim", "get", "drop", "sit", "dim", "skip", "bob", "slip", "zip", "pop", "lag", "hug",
    "step", "put", "shut", "scan", "trot", "jog", "cut", "let", "set", "win", "plan",
})  # fmt: skip
_OPENINGS = (
    "a video of", "a clip of", "an animation of", "footage of", "a short film of", "a shot of", "a movie of",
    "a scene with", "a picture of", "an animated", "video:", "a little clip with", "a view of", "a gif of",
)  # fmt: skip
_THERE_IS = (
    "there is", "we see", "I see", "here is", "you can see", "it shows", "this is", "the clip shows",
    "in the video there is", "the scene contains", "look at", "picture", "imagine", "behold", "the screen shows",
)  # fmt: skip
_REQUESTS = (
    "show me", "please show", "draw", "make me", "create", "generate", "I want", "I would like to see", "give me",
    "can you show", "could you draw", "please make", "please render", "animate", "I'd like", "could you show me",
    "render", "let me see", "produce", "would you draw", "can I have", "I need", "how about", "what about",
    "try", "can we see", "paint", "please animate", "may I see", "design", "put in",
)  # fmt: skip
_CAUSE = ("make", "let", "have", "watch", "see how", "see", "let's watch")
_ADVERBS = (
    "slowly", "quickly", "gently", "smoothly", "steadily", "softly", "quietly", "calmly", "gradually", "rapidly",
    "happily", "lazily", "silently", "just", "simply", "briskly", "at a slow pace", "at high speed", "in silence",
    "all the time", "for a while", "without a sound", "again", "with ease", "over and over", "at full speed",
    "gracefully", "as if by magic", "carefully", "swiftly",
)  # fmt: skip
_STARTS = (
    ("begins to", "base"), ("starts to", "base"), ("is about to", "base"), ("wants to", "base"), ("can", "base"),
    ("keeps", "gerund"), ("starts", "gerund"), ("is", "gerund"), ("is", "gerund"), ("is", "gerund"),
    ("can be seen", "gerund"), ("is busy", "gerund"), ("seems to", "base"), ("should", "base"), ("will", "base"),
    ("has to", "base"), ("is seen", "gerund"), ("continues to", "base"), ("goes on", "gerund"), ("is slowly", "gerund"),
)  # fmt: skip
_CONNECTIVES = (
    "and", "and", "and", "and", "while", "while", "as", "with", "whereas", "and then", "meanwhile", "plus", "but",
    "next to", "beside", "together with", "along with", "alongside", "near", "accompanied by", "as well as", ",",
    ";", ".", "and also", "at the same time", "and beside it", "besides", "and next to it", "just as", "when",
)  # fmt: skip
_NOUN_CONNECTIVES = frozenset({
    "with", "next to", "beside", "together with", "along with", "alongside", "near", "accompanied by", "plus",
    "as well as",
})  # fmt: skip
_COLOUR_NOUNS = ("colour", "color", "hue", "shade")
_FILLERS = (
    "please", "now", "here", "well", "okay", "um", "so", "in this video", "on the screen", "in the frame",
    "somehow", "of course", "for me", "thanks", "you know", "maybe", "in the picture", "in this clip", "today",
    "right away", "in high quality", "4k", "beautiful", "nice", "cute", "in cartoon style", "simple", "looped",
)  # fmt: skip
_ORNAMENTS = ("simple", "nice", "lonely", "single", "shiny", "pretty", "plain", "flat", "lovely", "solid", "smooth")


@dataclass(frozen=True)
class SaidObject:
    """What a sentence says of one object; None is not said.

    Attributes:
        thing: A key of `words.SHAPES`, or the name of a subject.
        colour: A key of `words.COLOURS`.
        size: A key of `words.SIZES`.
        motion: A key of `words.MOTIONS`.
    """

    thing: str
    colour: str | None = None
    size: str | None = None
    motion: str | None = None


@dataclass(frozen=True)
class Meaning:
    """What a sentence says: one or two objects in the order of their mention, and the background's colour."""

    objects: tuple[SaidObject, ...]
    background: str | None = None


@dataclass(frozen=True)
class Grammar:
    """Turns meanings into sentences.

    Attributes:
        names: For each subject that is no shape, what it may be called.
        typing_error_rate: Share of sentences in which one to three words are misspelt, in [0, 1].
    """

    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    typing_error_rate: float = 0.3

    def say(self, meaning: Meaning, rng: Random) -> str:
        """A sentence that says all of a meaning, and nothing else of what a meaning can hold."""
        said = _Speaker(self.names, rng).sentence(meaning)
        if rng.random() < 0.15:
            said = _with_filler(said, rng)
        if rng.random() < self.typing_error_rate:
            said = with_typing_errors(said, rng)
        share = rng.random()
        if share < 0.3:
            said = said[0].upper() + said[1:]
        elif share < 0.33:
            said = said.upper()
        return re.sub(r"\s+([,.;:?!])", r"\1", re.sub(r"\s+", " ", said)).strip()


class _Speaker:
    """Says one sentence."""

    def __init__(self, names: Mapping[str, tuple[str, ...]], rng: Random) -> None:
        self.names = names
        self.rng = rng

    def sentence(self, meaning: Meaning) -> str:
        body = self._one(meaning.objects[0]) if len(meaning.objects) == 1 else self._two(*meaning.objects)
        if meaning.background is None:
            end = self.rng.choice((".", "?", "!")) if self.rng.random() < 0.3 else ""
            return f"{body}{end}"
        return self._with_background(body, meaning.background)

    # one and two objects

    def _one(self, item: SaidObject) -> str:
        rng = self.rng
        late = self._late_attributes(item) if rng.random() < 0.25 else None
        kept = late[0] if late else item
        tail = f". {late[1]}" if late else ""
        noun = self._noun_phrase(kept)
        if item.motion is None:
            return self._opened(noun) + tail
        form = rng.randrange(12)
        if form == 0:
            said = f"{rng.choice(_OPENINGS)} {noun} {self._verb(item.motion, 'gerund')}"
        elif form == 1:
            said = f"{rng.choice(_REQUESTS)} {noun} {self._moving(item.motion)}"
        elif form == 2:
            said = f"{rng.choice(_THERE_IS)} {noun} {self._moving(item.motion)}"
        elif form == 3:
            said = f"{rng.choice(_CAUSE)} {noun} {self._verb(item.motion, 'base')}"
        elif form == 4:
            pronoun = rng.choice(("it", "it", "which", "and it", "the shape" if item.thing in words.SHAPES else "it"))
            mark = rng.choice((".", ",", ";", " -", ":"))
            said = f"{self._opened(noun)}{mark} {pronoun} {self._clause_verb(item.motion)}"
        elif form == 5 and item.motion in words.DIRECTIONS:
            verb = _inflect(rng.choice(words.TRAVEL[:12]), "finite")
            said = f"{rng.choice(words.DIRECTIONS[item.motion])} {verb} {noun}"
        elif form == 6:
            said = f"{self._verb(item.motion, 'gerund')}, {noun}"
            if rng.random() < 0.5:
                said = f"{self._verb(item.motion, 'gerund')} {self._noun_phrase(kept, article='')}"
        elif form == 7:
            said = f"{noun} {rng.choice(words.NOMINALS[item.motion])}"
        elif form == 8:
            said = f"{noun}, {self._verb(item.motion, 'gerund')}"
        elif form == 9 and late is None:
            return self._listed(item)
        else:
            said = f"{noun} {self._clause_verb(item.motion)}"
        return said + tail

    def _two(self, first: SaidObject, second: SaidObject) -> str:
        rng = self.rng
        if first.motion is not None and first.motion == second.motion and rng.random() < 0.4:
            pair = f"{self._noun_phrase(first)} and {self._noun_phrase(second)}"
            both = rng.choice(("", "both", "together", "each"))
            if rng.random() < 0.5:
                return f"{self._opened(pair)} {both} {self._verb(first.motion, 'gerund')}"
            return f"{pair} {both} {self._verb(first.motion, 'base')}"
        form = rng.random()
        if form < 0.12:
            intro = rng.choice(("two shapes", "two things", "two objects", "a pair of shapes", "a scene with two things"))
            parts = [f"{self._noun_phrase(item)} {self._moving(item.motion)}" for item in (first, second)]
            return f"{intro}: {parts[0]} {rng.choice(('and', ',', ', and'))} {parts[1]}"
        if form < 0.24:
            names = [self._noun_phrase(item) for item in (first, second)]
            verbs = [
                self._clause_verb(item.motion) if item.motion else "is there" for item in (first, second)
            ]
            mentions = rng.choice(
                (
                    ("the first", "the second"), ("the former", "the latter"), ("the first one", "the other"),
                    ("one", "the other"), (f"the {self._plain_noun(first)}", f"the {self._plain_noun(second)}"),
                )
            )  # fmt: skip
            joined = f"{names[0]} and {names[1]}"
            if first.motion is None and second.motion is None:
                return self._opened(joined)
            mark = rng.choice((".", ";", ":", ","))
            said = [
                f"{mention} {verb}"
                for mention, verb, item in zip(mentions, verbs, (first, second), strict=True)
                if item.motion is not None
            ]
            link = rng.choice((" and ", ", ", " while ", "; "))
            return f"{self._opened(joined)}{mark} {link.join(said)}"
        link = rng.choice(_CONNECTIVES)
        opening = rng.choice((*_OPENINGS, *_THERE_IS, *_REQUESTS)) if rng.random() < 0.4 else ""
        moving = bool(opening) or link in _NOUN_CONNECTIVES
        parts = []
        for item in (first, second):
            noun = self._noun_phrase(item)
            verb = ""
            if item.motion is not None:
                verb = self._moving(item.motion) if moving else self._clause_verb(item.motion)
            parts.append(f"{noun} {verb}")
        return f"{opening} {parts[0]} {link} {parts[1]}".strip()

    def _opened(self, noun: str) -> str:
        rng = self.rng
        if rng.random() < 0.4:
            return noun
        return f"{rng.choice((*_OPENINGS, *_THERE_IS, *_REQUESTS))} {noun}"

    def _late_attributes(self, item: SaidObject) -> tuple[SaidObject, str] | None:
        """The object without colour or size, and a sentence that says them of it."""
        rng = self.rng
        about = rng.choice(("it", "the shape", "this", f"the {self._plain_noun(item)}"))
        colour = None if item.colour is None else self._word(words.COLOURS[item.colour])
        size = None if item.size is None else self._adjective(item.size)
        if colour and (size is None or rng.random() < 0.6):
            said = rng.choice(
                (
                    f"its {rng.choice(_COLOUR_NOUNS)} is {colour}", f"{about} is {colour}", f"{about} should be {colour}",
                    f"{about} has a {colour} {rng.choice(_COLOUR_NOUNS)}", f"paint it {colour}", f"make it {colour}",
                    f"{rng.choice(_COLOUR_NOUNS)}: {colour}", f"{about} must be {colour}", f"it looks {colour}",
                )
            )  # fmt: skip
            return SaidObject(item.thing, None, item.size, item.motion), said
        if size:
            said = rng.choice(
                (
                    f"{about} is {size}", f"its size is {size}", f"{about} should be {size}", f"make it {size}",
                    f"it is {size} in size", f"{about} looks {size}", f"size: {size}", f"keep it {size}",
                )
            )  # fmt: skip
            return SaidObject(item.thing, item.colour, None, item.motion), said
        return None

    def _listed(self, item: SaidObject) -> str:
        """In telegram style: the attributes one after the other, in any order."""
        assert item.motion is not None
        parts = [self._plain_noun(item), self._verb(item.motion, self.rng.choice(("gerund", "finite", "base")))]
        if item.colour:
            parts.append(self._word(words.COLOURS[item.colour]))
        if item.size:
            parts.append(self._adjective(item.size))
        if self.rng.random() < 0.5:
            parts[1:] = self.rng.sample(parts[1:], len(parts) - 1)
        else:
            parts = self.rng.sample(parts, len(parts))
        return self.rng.choice((", ", " ", ", ", " - ")).join(parts)

    # noun phrases

    def _noun_phrase(self, item: SaidObject, article: str | None = None) -> str:
        rng = self.rng
        noun = self._plain_noun(item)
        colour = None if item.colour is None else self._word(words.COLOURS[item.colour])
        size = None if item.size is None else self._word(words.SIZES[item.size])
        behind: list[str] = []
        before: list[str] = []
        if size is not None:
            if size.startswith(("of ", "neither ")):
                behind.append(size if size.startswith("of ") else f"that is {size}")
            elif rng.random() < 0.8:
                before.append(size)
            else:
                behind.append(
                    rng.choice((f"of {size} size", f"that is {size}", f"which is {size}", f"of a {size} size", f", {size}"))
                )
        if colour is not None:
            if rng.random() < 0.8:
                before.append(rng.choice((colour, colour, colour, colour, f"{colour} coloured", f"{colour}-colored")))
            else:
                behind.append(
                    rng.choice(
                        (
                            f"in {colour}", f"that is {colour}", f"which is {colour}", f"of {colour} colour",
                            f"in a {colour} {rng.choice(_COLOUR_NOUNS)}", f"painted {colour}", f"of a {colour} hue",
                            f", {colour},", f"with a {colour} colour", f"({colour})", f"coloured {colour}",
                        )
                    )
                )  # fmt: skip
        if len(before) == 2 and rng.random() < 0.15:
            before.reverse()
        if rng.random() < 0.06:
            before.insert(rng.randrange(len(before) + 1), rng.choice(_ORNAMENTS))
        rng.shuffle(behind)
        front = rng.choice((" ", " ", " ", ", ", " and ")).join(before) if len(before) == 2 else " ".join(before)
        phrase = f"{front} {noun} {' '.join(behind)}".strip()
        return self._determined(phrase) if article is None else f"{article} {phrase}".strip()

    def _determined(self, phrase: str) -> str:
        share = self.rng.random()
        if share < 0.62:
            return f"{article(phrase)} {phrase}"
        if share < 0.74:
            return f"the {phrase}"
        if share < 0.9:
            return phrase
        return f"{self.rng.choice(('one', 'this', 'some', 'my', 'a single', 'another', 'that', 'our'))} {phrase}"

    def _plain_noun(self, item: SaidObject) -> str:
        if item.thing in words.SHAPES:
            return self._word(words.SHAPES[item.thing])
        return self._word(self.names.get(item.thing, (item.thing,)))

    def _adjective(self, size: str) -> str:
        return self._word(tuple(word for word in words.SIZES[size] if not word.startswith("of ")))

    def _word(self, choices: tuple[str, ...]) -> str:
        return choices[0] if self.rng.random() < 0.3 else self.rng.choice(choices)

    # verbs

    def _verb(self, motion: str, form: str) -> str:
        rng = self.rng
        if motion in words.DIRECTIONS and rng.random() < 0.6:
            phrase = f"{rng.choice(words.TRAVEL)} {rng.choice(words.DIRECTIONS[motion])}"
        else:
            phrase = rng.choice(words.MOTIONS[motion][:8] if rng.random() < 0.3 else words.MOTIONS[motion])
        said = _inflect(phrase, form)
        if rng.random() < 0.15:
            said = f"{said} {rng.choice(_ADVERBS)}"
        elif rng.random() < 0.08 and form != "base":
            said = f"{rng.choice(_ADVERBS[:12])} {said}"
        if motion in ("rotate", "grow", "shrink", "fade in", "fade out", "still") and rng.random() < 0.06:
            said = f"{said} {rng.choice(words.PLACES)}"
        return said

    def _clause_verb(self, motion: str) -> str:
        """What makes a sentence of a noun."""
        if self.rng.random() < 0.55:
            return self._verb(motion, "finite")
        start, form = self.rng.choice(_STARTS)
        if form == "gerund" and start.startswith("is") and self.rng.random() < 0.1:
            return f"is {self.rng.choice(words.NOMINALS[motion])}"
        return f"{start} {self._verb(motion, form)}"

    def _moving(self, motion: str | None) -> str:
        """What can follow a noun that is not the subject of a clause."""
        if motion is None:
            return ""
        share = self.rng.random()
        if share < 0.6:
            return self._verb(motion, "gerund")
        if share < 0.75:
            return self.rng.choice(words.NOMINALS[motion])
        return f"{self.rng.choice(('that', 'which', 'as it', 'who'))} {self._clause_verb(motion)}"

    # the background

    def _with_background(self, body: str, background: str) -> str:
        rng = self.rng
        colour = self._word(words.BACKGROUNDS[background])
        kind = f"{rng.choice(words.KINDS)} " if rng.random() < 0.15 else ""
        noun = rng.choice(
            ("background", "background", "background", "background", "backdrop", "backdrop", "wall", "canvas", "ground",
             "screen", "surface", "field", "backcloth", "scene", "setting")
        )  # fmt: skip
        phrase = f"{kind}{colour} {noun}"
        if rng.random() < 0.1:
            phrase = f"{colour} {kind}{noun}"
        whole = f"{article(phrase)} {phrase}" if rng.random() < 0.85 else phrase
        preposition = rng.choice(
            ("on", "on", "on", "over", "against", "in front of", "before", "upon", "across", "set against", "with")
        )
        if preposition == "with" and noun not in ("background", "backdrop"):
            preposition = "on"
        form = rng.random()
        if form < 0.5:
            return f"{body} {preposition} {whole}"
        if form < 0.72:
            return f"{preposition} {whole}{rng.choice((',', ',', ' ', ':'))} {body}"
        late = (
            f"the {noun} is {colour}", f"with {whole} behind it", f"background: {colour}", f"everything behind is {colour}",
            f"on {colour}", f"{colour} background", f"the background should be {colour}", f"behind it all is {colour}",
            f"its background is {colour}", f"and the background is {colour}", f"with {colour} in the background",
            f"behind it is {whole}", f"all around it is {colour}", f"the backdrop being {colour}", f"against {colour}",
            f"where the background is {colour}", f"use {whole}", f"make the background {colour}", f"{colour} behind it",
            f"surrounded by {colour}", f"the scene is {colour} behind it", f"whose background is {colour}",
        )  # fmt: skip
        early = (
            f"the background is {colour}", f"{colour} background", f"background {colour}", f"a {colour} scene",
            f"there is {whole}", f"on {colour}", f"against {colour}", f"imagine {whole}", f"before {whole}",
        )  # fmt: skip
        if form < 0.9:
            return f"{body}{rng.choice((',', '.', ' ', ';', ','))} {rng.choice(late)}"
        return f"{rng.choice(early)}{rng.choice((',', '.', ':', ' -', ' and'))} {body}"


def _inflect(phrase: str, form: str) -> str:
    """A verb phrase in its plain form as `base`, `finite` (third person) or `gerund`."""
    if form == "base":
        return phrase
    verb, _, rest = phrase.partition(" ")
    if verb == "just" or (verb.endswith("ly") and verb != "fly"):
        return f"{verb} {_inflect(rest, form)}"
    if verb == "not":
        if rest.startswith("be "):
            return f"{_inflect('be', form)} not {rest[3:]}"
        return f"does not {rest}" if form == "finite" else f"not {_inflect(rest, 'gerund')}"
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


def _with_filler(said: str, rng: Random) -> str:
    filler = rng.choice(_FILLERS)
    return rng.choice((f"{filler}, {said}", f"{said} {filler}", f"{said}, {filler}"))


def with_typing_errors(said: str, rng: Random) -> str:
    """A sentence with one to three words misspelt."""
    parts = said.split(" ")
    places = [place for place, part in enumerate(parts) if len(re.sub("[^a-z]", "", part)) > 3]
    for place in rng.sample(places, min(len(places), rng.choice((1, 1, 2, 2, 3)))):
        parts[place] = misspell(parts[place], rng)
    return " ".join(parts)
