"""Says a scene in natural English, in many forms of sentence, with slips of the keyboard where asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random

from videogen.data.emoji.names import article
from videogen.data.sentences import words
from videogen.data.sentences.typing_errors import misspell
from videogen.data.sentences.verbs import inflect

_STARTS = (
    *((start, "base") for start in words.FORMS["starts_with_base"]),
    *((start, "gerund") for start in words.FORMS["starts_with_gerund"]),
)
_ALL_OPENINGS = (*words.FORMS["openings"], *words.FORMS["there_is"], *words.FORMS["requests"])
_MENTIONS = (
    ("the first", "the second"),
    ("the former", "the latter"),
    ("the first one", "the other"),
    ("one", "the other"),
)
_COLOUR_NOUNS = ("colour", "color", "hue", "shade")
_CONTRACTIONS = (
    ("does not ", "doesn't "), ("is not ", "isn't "), ("it is ", "it's "), ("that is ", "that's "),
    ("there is ", "there's "), ("the background is ", "the background's "),
)  # fmt: skip


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
        said = _contracted(said, rng)
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
        adjectives = words.PARTICIPLES.get(item.motion, ())
        if adjectives and rng.random() < 0.1:
            return self._opened(self._noun_phrase(kept, adjective=rng.choice(adjectives))) + tail
        form = rng.randrange(15)
        if form == 0:
            said = f"{rng.choice(words.FORMS['openings'])} {noun} {self._verb(item.motion, 'gerund')}"
        elif form == 1:
            said = f"{rng.choice(words.FORMS['requests'])} {noun} {self._moving(item.motion)}"
        elif form == 2:
            said = f"{rng.choice(words.FORMS['there_is'])} {noun} {self._moving(item.motion)}"
        elif form == 3:
            said = f"{rng.choice(words.FORMS['causes'])} {noun} {self._verb(item.motion, 'base')}"
        elif form == 4:
            pronoun = rng.choice(
                ("it", "it", "which", "and it", "the shape" if item.thing in words.SHAPES else "it")
            )
            mark = rng.choice((".", ",", ";", " -", ":"))
            said = f"{self._opened(noun)}{mark} {pronoun} {self._clause_verb(item.motion)}"
        elif form == 5 and item.motion in words.DIRECTIONS:
            verb = inflect(rng.choice(words.TRAVEL[:12]), "finite")
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
        elif form == 12:
            start = rng.choice(words.FORMS["asked"])
            to = "" if start in ("can", "could", "will", "may") else "to "
            said = f"{start} {noun} {to}{self._verb(item.motion, 'base')}"
        elif form == 13:
            mark = rng.choice((",", ".", ";", " and", " -"))
            order = rng.choice(words.FORMS["orders"])
            said = f"{self._opened(noun)}{mark} {order} {self._verb(item.motion, 'base')}"
        elif form == 14:
            said = f"{rng.choice(words.FORMS['watched'])} {noun} {self._clause_verb(item.motion)}"
        else:
            said = f"{noun} {self._clause_verb(item.motion)}"
        return said + tail

    def _two(self, first: SaidObject, second: SaidObject) -> str:
        rng = self.rng
        if first.motion is not None and first.motion == second.motion and rng.random() < 0.4:
            link = rng.choice(
                ("and", "and", "and", "with", "next to", "beside", "plus", "along with", "near")
            )
            pair = f"{self._noun_phrase(first)} {link} {self._noun_phrase(second)}"
            both = rng.choice(
                ("", "both", "together", "each", ", both", ", both of them", ", and both", "that both")
            )
            if rng.random() < 0.5:
                return f"{self._opened(pair)} {both} {self._verb(first.motion, 'gerund')}"
            return f"{pair} {both} {self._verb(first.motion, 'base')}"
        if rng.random() < 0.15:
            first, adjective = self._moved(first)
            second, other = self._moved(second)
            parts = [
                f"{self._noun_phrase(item, adjective=moving)} {self._moving(item.motion)}"
                for item, moving in ((first, adjective), (second, other))
            ]
            return self._opened(
                f" {rng.choice(('and', 'and', 'with', 'next to', 'beside', 'plus'))} ".join(parts)
            )
        form = rng.random()
        if form < 0.12:
            intro = rng.choice(
                ("two shapes", "two things", "two objects", "a pair of shapes", "a scene with two things")
            )
            parts = [f"{self._noun_phrase(item)} {self._moving(item.motion)}" for item in (first, second)]
            return f"{intro}: {parts[0]} {rng.choice(('and', ',', ', and'))} {parts[1]}"
        if form < 0.24:
            names = [self._noun_phrase(item) for item in (first, second)]
            verbs = [
                self._clause_verb(item.motion) if item.motion else "is there" for item in (first, second)
            ]
            nouns = tuple(f"the {self._plain_noun(item)}" for item in (first, second))
            mentions = rng.choice((*_MENTIONS, nouns))
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
        link = rng.choice(words.FORMS["connectives"])
        opening = rng.choice(_ALL_OPENINGS) if rng.random() < 0.4 else ""
        moving = bool(opening) or link in words.FORMS["noun_connectives"]
        parts = []
        for item in (first, second):
            noun = self._noun_phrase(item)
            verb = ""
            if item.motion is not None:
                verb = self._moving(item.motion) if moving else self._clause_verb(item.motion)
            parts.append(f"{noun} {verb}")
        return f"{opening} {parts[0]} {link} {parts[1]}".strip()

    def _moved(self, item: SaidObject) -> tuple[SaidObject, str]:
        """The object without its motion, and an adjective that says it, if there is one; at times."""
        adjectives = words.PARTICIPLES.get(item.motion or "", ())
        if not adjectives or self.rng.random() < 0.4:
            return item, ""
        return replace(item, motion=None), self.rng.choice(adjectives)

    def _opened(self, noun: str) -> str:
        rng = self.rng
        if rng.random() < 0.4:
            return noun
        return f"{rng.choice(_ALL_OPENINGS)} {noun}"

    def _late_attributes(self, item: SaidObject) -> tuple[SaidObject, str] | None:
        """The object without colour or size, and a sentence that says them of it."""
        rng = self.rng
        about = rng.choice(("it", "the shape", "this", f"the {self._plain_noun(item)}"))
        colour = None if item.colour is None else self._word(words.COLOURS[item.colour])
        size = None if item.size is None else self._adjective(item.size)
        if colour and (size is None or rng.random() < 0.6):
            said = rng.choice(words.ATTRIBUTES["colour_late"])
            said = said.format(about=about, colour=colour, hue=rng.choice(_COLOUR_NOUNS))
            return SaidObject(item.thing, None, item.size, item.motion), said
        if size:
            said = rng.choice(words.ATTRIBUTES["size_late"]).format(about=about, size=size)
            return SaidObject(item.thing, item.colour, None, item.motion), said
        return None

    def _listed(self, item: SaidObject) -> str:
        """In telegram style: the attributes one after the other, in any order."""
        assert item.motion is not None
        parts = [
            self._plain_noun(item),
            self._verb(item.motion, self.rng.choice(("gerund", "finite", "base"))),
        ]
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

    def _noun_phrase(self, item: SaidObject, article: str | None = None, adjective: str = "") -> str:
        rng = self.rng
        noun = self._plain_noun(item)
        colour = None if item.colour is None else self._word(words.COLOURS[item.colour])
        size = None if item.size is None else self._word(words.SIZES[item.size])
        behind: list[str] = []
        before: list[str] = []
        if size is not None:
            if size.startswith(("of ", "neither ", "not ")):
                behind.append(size if size.startswith("of ") else f"that is {size}")
            elif rng.random() < 0.8:
                before.append(size)
            else:
                behind.append(rng.choice(words.ATTRIBUTES["size_behind"]).format(size=size))
        if colour is not None:
            if rng.random() < 0.8:
                before.append(rng.choice(words.ATTRIBUTES["colour_before"]).format(colour=colour))
            else:
                said = rng.choice(words.ATTRIBUTES["colour_behind"])
                behind.append(said.format(colour=colour, hue=rng.choice(_COLOUR_NOUNS)))
        if len(before) == 2 and rng.random() < 0.15:
            before.reverse()
        if rng.random() < 0.06:
            before.insert(rng.randrange(len(before) + 1), rng.choice(words.FORMS["ornaments"]))
        if adjective:
            before.insert(rng.randrange(len(before) + 1), adjective)
        rng.shuffle(behind)
        front = (
            rng.choice((" ", " ", " ", ", ", " and ")).join(before) if len(before) == 2 else " ".join(before)
        )
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
        return (
            f"{self.rng.choice(('one', 'this', 'some', 'my', 'a single', 'another', 'that', 'our'))} {phrase}"
        )

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
        said = inflect(phrase, form)
        if rng.random() < 0.15:
            said = f"{said} {rng.choice(words.FORMS['adverbs'])}"
        elif rng.random() < 0.08 and form != "base":
            said = f"{rng.choice(words.FORMS['adverbs'][:12])} {said}"
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
        noun = rng.choice(words.GROUND["nouns"])
        phrase = f"{kind}{colour} {noun}"
        if rng.random() < 0.1:
            phrase = f"{colour} {kind}{noun}"
        whole = f"{article(phrase)} {phrase}" if rng.random() < 0.85 else phrase
        preposition = rng.choice(words.GROUND["prepositions"])
        if preposition == "with" and noun not in ("background", "backdrop"):
            preposition = "on"
        form = rng.random()
        if form < 0.2 and len(re.findall(" (?:that|which) ", body)) == 1:  # before a relative clause
            return re.sub(" (that|which) ", rf" {preposition} {whole} \1 ", body)
        if form < 0.5:
            return f"{body}{rng.choice((' ', ' ', ', '))}{preposition} {whole}"
        if form < 0.72:
            return f"{preposition} {whole}{rng.choice((',', ',', ' ', ':'))} {body}"
        if form < 0.9:
            late = rng.choice(words.GROUND["late"]).format(colour=colour, noun=noun, whole=whole)
            return f"{body}{rng.choice((',', '.', ' ', ';', ','))} {late}"
        early = rng.choice(words.GROUND["early"]).format(colour=colour, noun=noun, whole=whole)
        return f"{early}{rng.choice((',', '.', ':', ' -', ' and'))} {body}"


def _with_filler(said: str, rng: Random) -> str:
    filler = rng.choice(words.FORMS["fillers"])
    return rng.choice((f"{filler}, {said}", f"{said} {filler}", f"{said}, {filler}"))


def _contracted(said: str, rng: Random) -> str:
    """With the short forms of speech, in half of the places that have one."""
    for long, short in _CONTRACTIONS:
        if rng.random() < 0.5:
            said = said.replace(long, short)
    return said


def with_typing_errors(said: str, rng: Random) -> str:
    """A sentence with one to three words misspelt."""
    parts = said.split(" ")
    places = [place for place, part in enumerate(parts) if len(re.sub("[^a-z]", "", part)) > 3]
    for place in rng.sample(places, min(len(places), rng.choice((1, 1, 2, 2, 3)))):
        parts[place] = misspell(parts[place], rng)
    return " ".join(parts)
