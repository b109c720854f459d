"""Captions of the worlds `shapes` and `emoji` in other languages than English.

All that a language consists of stands in `words/<language>.toml`; here words become sentences. In these files

- a noun follows its gender: `m`, `f` or `n`, `p` for a plural without gender, `mp` and `fp` for one with;
- `a/b` is a singular and a plural, `a/b/c/d` a masculine, a feminine and their plurals: the form that agrees
  with the noun is said;
- `*` stands for the ending of an adjective, by case and gender, and what follows `~` is what a noun adds in
  an oblique case;
- `_` in a size or the kind of a background is the noun, so an adjective may stand on either side of it;
- `_` in front of a word of a motion marks the separable part of a verb, and `!` at the end of a motion that
  it is not said together with a place.

The first of several words is the plain one, and said most often.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from random import Random
from typing import Any

from videogen.data.emoji import captions as emoji
from videogen.data.emoji.names import Naming
from videogen.data.emoji.world import EmojiObject, EmojiScene, place_of
from videogen.data.shapes import captions as shapes
from videogen.data.shapes.captions import say
from videogen.data.shapes.world import Scene, ShapeObject, X, Y

LANGUAGES = ("de", "fr", "es", "it", "pt")
"""Codes of the languages (ISO 639-1)."""

_GENDERS = ("m", "f", "mp", "fp")
"""Order of the four forms of a word."""


@dataclass(frozen=True)
class _Object:
    """What is said of one object.

    Attributes:
        noun: With its adjectives, not inflected.
        gender: Of the noun.
        motion: Not inflected.
        place: Empty if it is not said.
    """

    noun: str
    gender: str
    motion: str
    place: str


@cache
def words(language: str) -> dict[str, Any]:
    """All words and rules of a language, as its file has them.

    Raises:
        ValueError: If there are none.
    """
    if language not in LANGUAGES:
        raise ValueError(f"`language` must be one of {', '.join(LANGUAGES)}, got {language!r}")
    table = tomllib.loads(
        resources.files("videogen.data").joinpath(f"words/{language}.toml").read_text("utf-8")
    )
    directions = table.pop("directions")
    travel = directions.pop("travel")
    for motion, ways in directions.items():
        moves = [f"{verb} {way}" for way in ways for verb in travel]
        table["motions"][motion] = moves + table["motions"].get(motion, [])
    return table


def check_languages(foreign_rate: float, languages: Sequence[str]) -> None:
    """Refuse a share of captions out of range, and languages without words.

    Raises:
        ValueError: If `foreign_rate` is not in [0, 1], or `languages` are not some of `LANGUAGES`.
    """
    if not 0 <= foreign_rate <= 1:
        raise ValueError(f"`foreign_rate` must be in [0, 1], got {foreign_rate}")
    unknown = [language for language in languages if language not in LANGUAGES]
    if unknown or not languages:
        raise ValueError(f"`languages` must be some of {', '.join(LANGUAGES)}, got {languages!r}")


def foreign_caption(
    scene: Scene | EmojiScene, rng: Random, foreign_rate: float, languages: Sequence[str]
) -> str | None:
    """A caption in one of the languages for a share of scenes, None for the others, which remain English."""
    if rng.random() >= foreign_rate:
        return None
    return caption(scene, rng, rng.choice(languages))


def caption(scene: Scene | EmojiScene, rng: Random, language: str) -> str | None:
    """A caption as a person might write it, in another language.

    As in English, the subject or colour and shape of every object and its motion are always said, while size,
    place and background are left out at times.

    Args:
        scene: Of either world.
        rng: What the words and the form of the sentence are drawn from.
        language: One of `LANGUAGES`.

    Returns:
        The caption; None if the language has no name for a subject.
    """
    return _caption(scene, rng, language, complete=False)


def caption_pair(
    scene: Scene | EmojiScene, namings: dict[str, Naming], rng: Random, language: str
) -> tuple[str, str] | None:
    """The same said in English and in another language, to teach a text encoder that both mean the same.

    Both name subject or colour and shape, size and motion of every object and the background, and nothing
    else. English takes its plain form; words and sentences of the other language are as free as in `caption`.

    Args:
        scene: Of either world.
        namings: English names of the subjects; empty for `shapes`.
        rng: What the words and the form of the sentence are drawn from.
        language: One of `LANGUAGES`.

    Returns:
        Both captions; None if the language has no name for a subject.
    """
    said = _caption(scene, rng, language, complete=True)
    if said is None:
        return None
    if isinstance(scene, EmojiScene):
        return emoji.plain_caption(scene.objects, namings, scene.backdrop), said
    return shapes.plain_caption(scene.objects, scene.background), said


def _caption(scene: Scene | EmojiScene, rng: Random, language: str, *, complete: bool) -> str | None:
    table = words(language)
    if any(isinstance(item, EmojiObject) and item.name not in table["subjects"] for item in scene.objects):
        return None
    objects = [_describe(scene, idx, table, rng, complete=complete) for idx in range(len(scene.objects))]
    ground = _ground(scene, table, rng) if complete or rng.random() < 0.75 else ""
    relation = ""
    if len(objects) > 1 and not complete:
        if isinstance(scene, EmojiScene) and scene.overlap:
            relation = rng.choice(("front", "behind"))
            if relation == "front":
                objects.reverse()  # what is painted last is in front
        elif rng.random() < 0.15:
            relation = "beside"
    sentence = _Sentence(table, rng)
    text = sentence.related(objects, relation, ground) if relation else sentence.joined(objects, ground)
    for pattern, contracted in table.get("contractions", ()):
        text = re.sub(pattern, contracted, text)
    return text


def _describe(
    scene: Scene | EmojiScene, idx: int, table: dict[str, Any], rng: Random, *, complete: bool
) -> _Object:
    item = scene.objects[idx]
    if isinstance(item, ShapeObject):
        gender, _, noun = say(table["shapes"][item.shape], rng).partition(" ")
        noun = _coloured(noun, item.colour, table, rng)
    else:
        gender, _, noun = say(table["subjects"][item.name], rng).partition(" ")
    if complete or rng.random() < 0.7:
        noun = say(table["sizes"][item.size], rng).replace("_", noun)
    motion = say(table["motions"][item.motion], rng)
    place = ""
    if (
        not complete
        and isinstance(scene, EmojiScene)
        and item.motion in emoji.IN_PLACE
        and rng.random() < 0.4
    ):
        where = place_of(float(scene.tracks[idx][0, X]), float(scene.tracks[idx][0, Y]))
        place = say(table["places"][where], rng)
    return _Object(noun, gender, motion.removesuffix("!"), "" if motion.endswith("!") else place)


def _ground(scene: Scene | EmojiScene, table: dict[str, Any], rng: Random) -> str:
    if isinstance(scene, EmojiScene):
        colour, kind = scene.backdrop.colour, scene.backdrop.kind
    else:
        colour, kind = scene.background.name, "gradient" if scene.background.gradient else "plain"
    preposition, case, background = rng.choice(table["grounds"])
    gender, _, noun = background.partition(" ")
    noun = say(table["kinds"][kind], rng).replace("_", _coloured(noun, colour, table, rng))
    return f"{preposition} {_noun_phrase(noun, gender, case, table)}"


def _coloured(noun: str, colour: str, table: dict[str, Any], rng: Random) -> str:
    word = say(table["colours"][colour], rng)
    return f"{word} {noun}" if table["colours_first"] else f"{noun} {word}"


def _noun_phrase(noun: str, gender: str, case: str, table: dict[str, Any]) -> str:
    """A noun with its adjectives in a case, after the article of that case."""
    rules = table["cases"][case]
    noun = _agree(noun, gender).replace("*", rules.get("endings", {}).get(gender, ""))
    noun = re.sub(r"~(\w*)", r"\1" if rules.get("oblique") else "", noun)
    for genders, beginning, article in rules["articles"]:
        if re.fullmatch(genders, gender) and re.match(beginning, noun, re.IGNORECASE):
            return f"{article} {noun}".strip().replace("' ", "'")
    return noun


def _agree(phrase: str, gender: str) -> str:
    """A phrase with the forms that agree with a noun of this gender."""

    def form(word: str) -> str:
        forms = word.split("/")
        if len(forms) == 4:
            return forms[_GENDERS.index(gender)]
        return forms[-1] if gender.endswith("p") else forms[0]

    return " ".join(form(word) for word in phrase.split())


@dataclass(frozen=True)
class _Sentence:
    """Puts what is said of objects into the order of a language.

    In languages with `verb_second`, the verb of a main clause is its second part, whatever the first one is,
    that of a subordinate clause is the last one, and commas part clauses.
    """

    table: dict[str, Any]
    rng: Random

    @property
    def comma(self) -> str:
        """What stands between clauses."""
        return "," if self.table["verb_second"] else ""

    def joined(self, objects: Sequence[_Object], ground: str) -> str:
        """Objects named one after the other, and what is behind all of them."""
        share = self.rng.random()
        if share < 0.15:
            return self._opened(objects, ground)
        if share < 0.3:
            opening = self.rng.choice(self.table["clause_openings"])
            said = f" {self.table['and']} ".join(self._clause(item, "subordinate") for item in objects)
            return self._grounded(f"{opening} {said}", ground)
        if self.rng.random() < 0.5:
            conjunction, order = f" {self.table['and']} ", "main"
        else:
            conjunction, order = f"{self.comma} {self.rng.choice(self.table['while'])} ", "subordinate"
        if ground and self.rng.random() < 0.2:
            said = conjunction.join(
                self._clause(item, order if idx else "inverted") for idx, item in enumerate(objects)
            )
            return f"{ground} {said}" if self.table["verb_second"] else f"{ground}, {said}"
        if len(objects) == 1 and self.rng.random() < 0.3:
            return f"{self._clause(objects[0], 'main')} {ground}".strip()
        if len(objects) == 1:
            return self._clause(objects[0], "main", ground)
        said = conjunction.join(
            self._clause(item, order if idx else "main") for idx, item in enumerate(objects)
        )
        return self._grounded(said, ground)

    def related(self, objects: Sequence[_Object], relation: str, ground: str) -> str:
        """The first object in front of, behind or beside the second one."""
        first, second = objects
        preposition = self.rng.choice(self.table[relation])
        opening = self.rng.choice(self.table["clause_openings"]) if self.rng.random() < 0.3 else ""
        noun_phrase = _noun_phrase(second.noun, second.gender, self.table["object_case"], self.table)
        other = f"{preposition} {noun_phrase}{self._relative(second)}"
        if self.table["verb_second"]:
            said = f"{other}, {self._clause(first, 'subordinate' if opening else 'inverted')}"
        else:
            said = f"{self._clause(first, 'main')} {other}"
        return self._grounded(f"{opening} {said}".strip(), ground)

    def _opened(self, objects: Sequence[_Object], ground: str) -> str:
        """`a video of` objects, each of which a relative clause follows."""
        opening, of = self.rng.choice(self.table["openings"])
        said = f"{self.comma} {self.table['and']} ".join(
            f"{of} {_noun_phrase(item.noun, item.gender, self.table['opening_case'], self.table)}".strip()
            + self._relative(item)
            for item in objects
        )
        return self._grounded(f"{opening} {said}", ground)

    def _grounded(self, said: str, ground: str) -> str:
        return f"{said}{self.comma} {ground}" if ground else said

    def _relative(self, item: _Object) -> str:
        return f"{self.comma} {self._order(item, self.table['relative'][item.gender], 'subordinate')}"

    def _clause(self, item: _Object, order: str, ground: str = "") -> str:
        case = "definite" if self.rng.random() < 0.1 else "indefinite"
        return self._order(item, _noun_phrase(item.noun, item.gender, case, self.table), order, ground)

    def _order(self, item: _Object, subject: str, order: str, ground: str = "") -> str:
        """The parts of a clause in the order `main`, `inverted` or `subordinate`."""
        motion = _agree(item.motion, item.gender)
        if not self.table["verb_second"]:
            return " ".join(part for part in (subject, motion, item.place, ground) if part)
        finite, *rest = motion.split()
        reflexive = rest.pop(0) if rest[:1] == ["sich"] else ""
        particle = rest.pop().removeprefix("_") if rest and rest[-1].startswith("_") else ""
        middle = (item.place, ground, *rest)
        parts: tuple[str, ...]
        if order == "subordinate":
            parts = (subject, reflexive, *middle, f"{particle}{finite}")
        elif order == "inverted":
            parts = (finite, reflexive, subject, *middle, particle)
        else:
            parts = (subject, finite, reflexive, *middle, particle)
        return " ".join(part for part in parts if part)
