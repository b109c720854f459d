"""How people call the subjects of the world `emoji`: everyday names, articles, telling keywords."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from videogen.data.emoji.artwork import Subject

EVERYDAY: dict[str, tuple[str, ...]] = {
    "alien monster": ("pixel monster", "space invader"),
    "anatomical heart": ("real heart",),
    "angry face": ("mad face",),
    "articulated lorry": ("truck", "lorry", "semi-truck"),
    "astronaut": ("spaceman",),
    "auto rickshaw": ("tuk-tuk", "rickshaw"),
    "automobile": ("car", "red car"),
    "baby angel": ("cherub", "little angel"),
    "baby chick": ("chick",),
    "backhand index pointing down": ("finger pointing down", "hand pointing down"),
    "backhand index pointing left": ("finger pointing left", "hand pointing left"),
    "backhand index pointing right": ("finger pointing right", "hand pointing right"),
    "backhand index pointing up": ("finger pointing up", "hand pointing up"),
    "beaming face with smiling eyes": ("beaming face", "happy face"),
    "beating heart": ("pulsing heart", "throbbing heart"),
    "beer mug": ("beer", "mug of beer"),
    "bird": ("little bird",),
    "birthday cake": ("cake",),
    "blowfish": ("pufferfish",),
    "boar": ("wild boar",),
    "bottle with popping cork": ("champagne bottle", "bottle of champagne"),
    "bug": ("caterpillar",),
    "camel": ("dromedary",),
    "cat": ("kitty", "house cat"),
    "cat face": ("kitten face", "cat's head"),
    "chequered flag": ("checkered flag", "racing flag"),
    "chicken": ("hen",),
    "child": ("kid",),
    "Christmas tree": ("decorated tree",),
    "cloud with lightning": ("thunder cloud", "thundercloud"),
    "cloud with lightning and rain": ("thunderstorm", "storm cloud"),
    "cloud with rain": ("rain cloud",),
    "cloud with snow": ("snow cloud",),
    "clown face": ("clown",),
    "cockroach": ("roach",),
    "cocktail glass": ("cocktail", "martini"),
    "cold face": ("freezing face", "blue frozen face"),
    "construction worker": ("builder",),
    "cook": ("chef",),
    "cow": ("milk cow",),
    "cow face": ("cow's head",),
    "cowboy hat face": ("cowboy", "face with a cowboy hat"),
    "cricket": ("grasshopper",),
    "crocodile": ("alligator", "croc"),
    "crying face": ("sad face with a tear", "face that cries"),
    "cyclone": ("whirl", "hurricane", "spiral"),
    "delivery truck": ("van", "truck"),
    "detective": ("spy", "investigator"),
    "dog": ("puppy", "hound"),
    "dog face": ("puppy face", "dog's head"),
    "dove": ("white dove", "pigeon"),
    "dragon": ("green dragon",),
    "droplet": ("drop of water", "water drop"),
    "eagle": ("bald eagle",),
    "enraged face": ("furious face", "red angry face"),
    "ewe": ("sheep", "lamb"),
    "exploding head": ("mind-blown face", "head that explodes"),
    "face screaming in fear": ("screaming face", "scared face"),
    "face with medical mask": ("masked face", "face with a mask"),
    "face with tears of joy": ("laughing face", "face crying with laughter"),
    "ferris wheel": ("big wheel",),
    "fire": ("flame",),
    "fire engine": ("fire truck",),
    "firefighter": ("fireman",),
    "fish": ("blue fish",),
    "flexed biceps": ("muscle", "strong arm"),
    "flying saucer": ("UFO", "alien ship"),
    "fog": ("mist",),
    "fox": ("fox's head",),
    "frog": ("frog's head",),
    "front-facing baby chick": ("chick", "yellow chick"),
    "ghost": ("spook",),
    "glowing star": ("shining star",),
    "grinning face": ("smiley", "smiling face", "happy face"),
    "hatching chick": ("chick in an egg",),
    "health worker": ("doctor", "nurse"),
    "heart on fire": ("burning heart",),
    "heart with arrow": ("heart pierced by an arrow", "cupid's heart"),
    "heart with ribbon": ("heart with a bow",),
    "high voltage": ("lightning bolt", "lightning"),
    "hippopotamus": ("hippo",),
    "honeybee": ("bee",),
    "horse": ("galloping horse", "pony"),
    "horse face": ("horse's head",),
    "horse racing": ("jockey", "rider on a horse"),
    "hot beverage": ("cup of coffee", "coffee", "cup of tea"),
    "hot face": ("overheated face", "red sweating face"),
    "hourglass done": ("hourglass",),
    "hourglass not done": ("running hourglass", "hourglass"),
    "hundred points": ("hundred", "100"),
    "jack-o-lantern": ("pumpkin", "halloween pumpkin"),
    "judge": ("person with a gavel",),
    "kangaroo": ("roo",),
    "kiss": ("kissing couple",),
    "lady beetle": ("ladybug", "ladybird"),
    "lion": ("lion's head",),
    "locomotive": ("steam engine", "steam train", "train"),
    "loudly crying face": ("sobbing face", "bawling face"),
    "love letter": ("letter with a heart",),
    "mage": ("wizard",),
    "mantelpiece clock": ("clock",),
    "merperson": ("mermaid",),
    "microbe": ("germ", "bacterium"),
    "milky way": ("galaxy",),
    "minibus": ("van", "small bus"),
    "motor boat": ("boat",),
    "motorcycle": ("motorbike",),
    "musical notes": ("music notes",),
    "nerd face": ("face with glasses",),
    "octopus": ("squid-like octopus",),
    "ogre": ("red ogre",),
    "orangutan": ("ape",),
    "passenger ship": ("cruise ship",),
    "person": ("human",),
    "person biking": ("cyclist", "person on a bicycle"),
    "person cartwheeling": ("person doing a cartwheel",),
    "person climbing": ("climber",),
    "person fencing": ("fencer",),
    "person golfing": ("golfer",),
    "person in lotus position": ("meditating person",),
    "person juggling": ("juggler",),
    "person lifting weights": ("weightlifter",),
    "person mountain biking": ("mountain biker",),
    "person rowing boat": ("rower",),
    "person running": ("runner", "jogger", "running person"),
    "person surfing": ("surfer",),
    "person swimming": ("swimmer",),
    "person walking": ("walker", "walking person", "pedestrian"),
    "pig": ("pink pig",),
    "pig face": ("pig's head",),
    "pile of poo": ("poop", "poo"),
    "pinched fingers": ("italian hand",),
    "pirate flag": ("skull flag",),
    "police officer": ("policeman", "cop"),
    "rabbit": ("bunny", "hare"),
    "rabbit face": ("bunny face", "rabbit's head"),
    "racing car": ("race car",),
    "ram": ("male sheep",),
    "red heart": ("heart",),
    "revolving hearts": ("hearts that circle each other",),
    "rhinoceros": ("rhino",),
    "ringed planet": ("planet", "saturn"),
    "robot": ("robot's head", "android"),
    "rocket": ("spaceship", "space rocket"),
    "roller coaster": ("rollercoaster",),
    "rolling on the floor laughing": ("laughing tilted face",),
    "rooster": ("cock", "cockerel"),
    "sailboat": ("sailing boat",),
    "Santa Claus": ("santa", "father christmas"),
    "sauropod": ("dinosaur", "brontosaurus"),
    "seal": ("sea lion",),
    "shooting star": ("falling star",),
    "shrimp": ("prawn",),
    "small airplane": ("propeller plane",),
    "airplane": ("plane", "aeroplane"),
    "smiling face with heart-eyes": ("face in love", "face with hearts for eyes"),
    "smiling face with sunglasses": ("cool face", "face with sunglasses"),
    "snail": ("slug with a shell",),
    "snake": ("serpent",),
    "snowman without snow": ("snowman",),
    "speedboat": ("motorboat",),
    "spider web": ("cobweb",),
    "spiral shell": ("seashell", "shell"),
    "sport utility vehicle": ("SUV", "blue car"),
    "spouting whale": ("whale",),
    "sun": ("bright sun",),
    "sun behind cloud": ("cloudy sun",),
    "sun with face": ("smiling sun",),
    "T-Rex": ("dinosaur", "tyrannosaurus"),
    "taxi": ("cab", "yellow cab"),
    "teacup without handle": ("cup of green tea",),
    "teddy bear": ("teddy",),
    "thumbs down": ("dislike hand",),
    "thumbs up": ("like hand",),
    "tiger face": ("tiger's head",),
    "tornado": ("twister", "whirlwind"),
    "tram car": ("tram",),
    "tropical drink": ("cocktail",),
    "tropical fish": ("aquarium fish",),
    "tumbler glass": ("glass of whisky",),
    "turtle": ("tortoise",),
    "two hearts": ("pair of hearts",),
    "two-hump camel": ("bactrian camel", "camel"),
    "umbrella with rain drops": ("umbrella in the rain",),
    "unicorn": ("unicorn's head",),
    "vampire": ("dracula",),
    "watch": ("wristwatch",),
    "water wave": ("wave", "ocean wave"),
    "whale": ("blue whale",),
    "wilted flower": ("drooping rose", "flower"),
    "wolf": ("wolf's head",),
    "woman dancing": ("dancer", "dancing woman"),
    "man dancing": ("dancer", "dancing man"),
    "worm": ("earthworm",),
    "zombie": ("undead",),
}  # fmt: skip
"""Other names of subjects, by their name."""

_UNCOUNTED = frozenset({
    "coffee", "fire", "fog", "horse racing", "lightning", "mist", "Mrs. Claus", "Mx Claus", "poop",
    "Santa Claus", "ZZZ",
})  # fmt: skip
_PLURAL = frozenset({
    "clapping hands", "clinking beer mugs", "clinking glasses", "crossed fingers", "crossed flags", "eyes",
    "flexed biceps", "folded hands", "footprints", "heart hands", "hearts that circle each other", "lungs",
    "men holding hands", "music notes", "musical notes", "open hands", "palms up together", "paw prints",
    "people holding hands", "people hugging", "people with bunny ears", "people wrestling",
    "pinched fingers", "raising hands", "revolving hearts", "two hearts", "women holding hands",
})  # fmt: skip
"""Names that take no article and, if plural, no s at the verb."""
_MAX_SHARED = 3
"""A keyword tells subjects apart if at most so many share it."""


@dataclass(frozen=True)
class Naming:
    """How captions may call a subject.

    Attributes:
        name: Its plain name, without an article.
        others: Everyday names.
        keywords: Those of its keywords that tell it apart, to be followed by "emoji".
        symbol: The emoji as a character; empty if it takes several.
    """

    name: str
    others: tuple[str, ...]
    keywords: tuple[str, ...]
    symbol: str


def namings(subjects: Iterable[Subject]) -> dict[str, Naming]:
    """How captions may call each of these subjects, by name."""
    subjects = tuple(subjects)
    shared = Counter(keyword for subject in subjects for keyword in subject.keywords)
    result = {}
    for subject in subjects:
        keywords = tuple(
            keyword
            for keyword in subject.keywords
            if shared[keyword] <= _MAX_SHARED and re.fullmatch(r"[a-z][a-z -]{2,}", keyword)
        )
        result[subject.name] = Naming(
            plain_name(subject.name), EVERYDAY.get(subject.name, ()), keywords, _symbol(subject.file)
        )
    return result


def plain_name(name: str) -> str:
    """A name as it stands in a sentence: `family: man, boy` becomes `family of man and boy`."""
    if re.search("o’clock$|-thirty$", name):
        return f"clock at {name}"
    head, colon, rest = name.partition(": ")
    if not colon:
        return name
    if head == "person":
        return f"{head} with {rest}"
    members = rest.split(", ")
    joined = " and ".join((", ".join(members[:-1]), members[-1]))
    return f"{head.removesuffix(' with heart')} of {joined}{' with heart' if 'heart' in head else ''}"


def with_article(phrase: str, noun: str) -> str:
    """`phrase` with `a` or `an`, unless its noun takes none.

    Args:
        phrase: The noun, with adjectives before it.
        noun: The noun alone, which decides whether there is an article at all.
    """
    if noun in _UNCOUNTED or noun in _PLURAL:
        return phrase
    return f"{article(phrase)} {phrase}"


def agree(verb: str, noun: str) -> str:
    """A finite form in the third person, such as `goes up`, in the number of its noun."""
    if noun not in _PLURAL:
        return verb
    first, space, rest = verb.partition(" ")
    if first == "is":
        first = "are"
    elif first.endswith("ies"):
        first = f"{first[:-3]}y"
    else:
        first = first.removesuffix("es") if re.search("(?:o|ch|sh|ss)es$", first) else first.removesuffix("s")
    return f"{first}{space}{rest}"


def article(word: str) -> str:
    """`a` or `an`, by the sound of the beginning as far as letters tell it."""
    if re.match(r"one\b|uni(?!n)|uf|eu|ewe|ute", word, re.IGNORECASE):
        return "a"
    return "an" if re.match(r"[aeiou]|SUV", word, re.IGNORECASE) else "a"


def _symbol(file: str) -> str:
    codes = file.rpartition("/")[2].partition(".")[0].removesuffix("-fe0f")
    return chr(int(codes, 16)) if re.fullmatch(r"[0-9a-f]{4,5}", codes) else ""
