"""How people say the attributes of a scene in English: far more ways than a caption needs."""

from __future__ import annotations

from videogen.data.emoji import captions as emoji

_COLOURS: dict[str, tuple[str, ...]] = {
    "red": (
        "red", "crimson", "scarlet", "ruby", "cherry red", "bright red", "blood red", "vermilion", "ruby red",
        "fiery red", "tomato red", "brick red", "maroon", "reddish", "cardinal red", "rust red",
    ),
    "green": (
        "green", "emerald", "lime", "lime green", "olive", "jade", "grass green", "mint green", "forest green",
        "leaf green", "bright green", "emerald green", "greenish", "moss green", "apple green",
    ),
    "blue": (
        "blue", "azure", "cobalt", "sapphire", "royal blue", "bright blue", "ultramarine", "cerulean",
        "electric blue", "bluish", "ocean blue", "indigo blue", "cornflower blue", "cobalt blue",
    ),
    "yellow": (
        "yellow", "golden", "gold", "lemon", "lemon yellow", "bright yellow", "canary yellow", "mustard",
        "sunny yellow", "yellowish", "blonde", "sunflower yellow", "gold coloured", "buttercup yellow",
    ),
    "orange": (
        "orange", "tangerine", "amber", "pumpkin coloured", "bright orange", "apricot", "orangey",
        "carrot coloured", "orange coloured", "burnt orange", "mandarin orange", "coral orange",
    ),
    "purple": (
        "purple", "violet", "lilac", "plum", "mauve", "lavender", "grape coloured", "indigo", "amethyst",
        "deep purple", "bright purple", "aubergine", "purplish", "royal purple", "plum coloured",
    ),
    "cyan": (
        "cyan", "turquoise", "aqua", "aquamarine", "teal", "bright cyan", "blue green", "greenish blue",
        "light cyan", "turquoise blue", "aqua coloured", "cyan coloured",
    ),
    "pink": (
        "pink", "rose", "rosy", "magenta", "fuchsia", "salmon pink", "hot pink", "bright pink", "pinkish",
        "bubblegum pink", "rose coloured", "light pink", "salmon", "blush pink", "candy pink",
    ),
}  # fmt: skip
_SHADES = ("dark", "deep", "vivid", "neon", "strong", "rich", "pale", "light", "pastel")
COLOURS: dict[str, tuple[str, ...]] = {
    colour: (*names, *(f"{shade} {colour}" for shade in _SHADES[: 6 if colour in ("blue", "cyan") else None]))
    for colour, names in _COLOURS.items()
}
_OTHER_BACKGROUNDS: dict[str, tuple[str, ...]] = {
    "black": (
        "black", "jet black", "pitch black", "ebony", "completely black", "coal black", "pure black", "onyx",
        "inky black", "totally dark", "pitch dark", "raven black", "black as night",
    ),
    "white": (
        "white", "snow white", "pure white", "plain white", "bright white", "ivory white", "snowy", "snowy white",
        "chalk white", "all white", "milky white", "whitish", "paper white",
    ),
    "gray": (
        "gray", "grey", "ash gray", "slate grey", "silver", "neutral grey", "stone gray", "medium grey",
        "concrete grey", "ashen", "greyish", "light grey", "dull gray", "charcoal grey", "smoky grey",
    ),
    "navy": (
        "navy", "dark blue", "navy blue", "midnight blue", "deep blue", "very dark blue", "deep navy blue",
        "night blue", "dark navy", "deep dark blue", "ink blue",
    ),
    "beige": (
        "beige", "cream", "sand coloured", "sandy", "tan", "cream coloured", "pale brown", "off white", "ecru",
        "light tan", "sand", "biscuit coloured", "vanilla", "eggshell", "light beige", "creamy", "khaki",
    ),
    "brown": ("brown", "chocolate brown", "chestnut", "chocolate", "coffee coloured", "brownish", "dark brown"),
    "teal": ("teal", "dark cyan", "dark turquoise"),
    "lavender": ("lavender", "light purple", "pale purple", "pale violet", "light violet", "pale lilac"),
    "sky blue": ("sky blue", "light blue", "pale blue", "baby blue", "powder blue", "soft blue"),
}  # fmt: skip
_CLAIMED = {name for names in _OTHER_BACKGROUNDS.values() for name in names}
BACKGROUNDS: dict[str, tuple[str, ...]] = {
    **{colour: tuple(name for name in names if name not in _CLAIMED) for colour, names in COLOURS.items()},
    **_OTHER_BACKGROUNDS,
}
"""Names of backgrounds; some mean another colour than they do on an object."""

SHAPES: dict[str, tuple[str, ...]] = {
    "circle": (
        "circle", "disc", "disk", "ball", "dot", "round shape", "sphere", "orb", "round disc", "spot",
        "filled circle", "round blob", "round thing", "roundel", "bubble", "marble", "globe",
    ),
    "square": (
        "square", "box", "block", "square shape", "tile", "cube", "square block", "four sided shape",
        "quadrilateral with equal sides", "square tile", "brick", "four cornered shape", "square box",
    ),
    "triangle": (
        "triangle", "triangular shape", "three sided shape", "wedge", "pyramid", "three cornered shape",
        "three pointed shape", "triangular piece", "delta shape", "shape with three corners",
        "shape with three sides", "triangle shape",
    ),
    "star": (
        "star", "star shape", "starlet", "five pointed star", "little star shape", "star shaped thing",
        "asterisk", "star figure", "pentagram", "shape of a star", "star symbol",
    ),
    "ring": (
        "ring", "hoop", "donut", "doughnut", "annulus", "hollow circle", "ring shape", "loop", "torus", "tyre",
        "circular band", "circle with a hole", "circle with a hole in it", "bagel", "ring shaped object",
        "washer", "empty circle", "circular ring",
    ),
    "cross": (
        "cross", "plus", "plus sign", "cross shape", "plus symbol", "cross sign", "plus shape", "crucifix",
        "cross figure", "addition sign", "cross shaped object", "cross symbol", "medical cross",
    ),
}  # fmt: skip
SIZES: dict[str, tuple[str, ...]] = {
    "small": (
        "small", "little", "tiny", "mini", "miniature", "minute", "wee", "teeny", "petite", "compact", "smallish",
        "very small", "really small", "quite small", "diminutive", "tiny little", "pint sized", "undersized",
    ),
    "medium": (
        "medium", "medium sized", "mid sized", "middle sized", "average sized", "moderately sized",
        "of medium size", "normal sized", "moderate", "regular sized", "medium size", "midsize", "average size",
        "ordinary sized", "neither big nor small", "moderately big", "intermediate",
    ),
    "large": (
        "large", "big", "huge", "giant", "enormous", "massive", "gigantic", "great big", "very large", "jumbo",
        "really big", "oversized", "immense", "very big", "sizeable", "colossal", "vast", "bulky", "largish",
        "hefty", "king sized", "substantial", "quite big",
    ),
}  # fmt: skip
"""Adjectives; those that begin with "of" or "neither" stand behind the noun."""

_TRAVEL = (
    "move", "slide", "glide", "travel", "drift", "go", "float", "head", "shift", "sail", "fly", "run", "cruise",
    "make its way", "march", "dash", "speed", "creep", "wander", "proceed", "race", "walk", "scoot", "crawl",
    "journey", "swim", "stroll", "rush", "advance", "slip", "zip", "push", "steer", "navigate", "coast", "skate",
    "move slowly", "drift slowly", "move steadily", "pass", "sweep", "dart", "hurry", "ride", "roam", "skid",
)  # fmt: skip
_LEFT = (
    "left", "to the left", "leftwards", "leftward", "towards the left", "toward the left side",
    "from right to left", "west", "westward", "westwards", "to the left hand side", "off to the left",
    "towards the left edge", "from the right to the left", "across the screen from right to left",
    "from the right side to the left side", "in a leftward direction", "to the west", "across to the left",
    "towards the left hand edge", "over to the left", "to the left side of the screen",
    "in the direction of the left edge", "to its left",
)  # fmt: skip
_UP = (
    "up", "upwards", "upward", "to the top", "towards the top", "straight up", "north", "from bottom to top",
    "up the screen", "northward", "skyward", "from the bottom to the top", "towards the upper edge", "higher",
    "vertically upwards", "in an upward direction", "to the top of the frame", "to the north", "higher and higher",
    "toward the ceiling", "towards the sky", "into the air", "upwards slowly",
)  # fmt: skip
_DOWN = (
    "down", "downwards", "downward", "to the bottom", "towards the bottom", "straight down", "south",
    "from top to bottom", "down the screen", "southward", "from the top to the bottom", "towards the lower edge",
    "lower", "vertically downwards", "in a downward direction", "to the bottom of the frame", "to the south",
    "lower and lower", "toward the floor", "towards the ground", "to the ground", "earthward",
)  # fmt: skip


def _mirrored(phrases: tuple[str, ...]) -> tuple[str, ...]:
    """The same towards the right: every left becomes right and every right left, west becomes east."""
    return tuple(
        phrase.replace("left", "\0").replace("right", "left").replace("\0", "right").replace("west", "east")
        for phrase in phrases
    )


def _diagonal(vertical: str, side: str, wind: str) -> tuple[str, ...]:
    upper, top = ("upper", "top") if vertical == "up" else ("lower", "bottom")
    other_top, other_side = ("bottom" if vertical == "up" else "top"), ("right" if side == "left" else "left")
    ns = "north" if vertical == "up" else "south"
    return (
        f"{vertical} and {side}", f"{vertical} and to the {side}", f"diagonally {vertical} and to the {side}",
        f"to the {upper} {side}", f"to the {top} {side}", f"{vertical} {side}", f"{side} and {vertical}",
        f"towards the {upper} {side} corner", f"toward the {top} {side} corner", f"{ns}{wind}",
        f"{ns} {wind}", f"diagonally {vertical} {side}", f"{vertical}wards and {side}wards",
        f"{vertical}ward and to the {side}", f"to the {side} and {vertical}wards", f"in the {upper} {side} direction",
        f"from the {other_top} {other_side} to the {top} {side}", f"diagonally to the {upper} {side}",
        f"{vertical}wards to the {side}", f"into the {top} {side} corner", f"{side} and {vertical} at the same time",
        f"diagonally towards the {top} {side}", f"{ns}{wind}ward", f"{vertical} towards the {side}",
        f"from {other_top} {other_side} to {top} {side}", f"at an angle {vertical} and to the {side}",
        f"{vertical} {side}wards", f"to the {side} and {vertical}",
    )  # fmt: skip


DIRECTIONS: dict[str, tuple[str, ...]] = {
    "left": _LEFT,
    "right": _mirrored(_LEFT),
    "up": _UP,
    "down": _DOWN,
    **{
        f"{vertical}-{side}": _diagonal(vertical, side, wind)
        for vertical in ("up", "down")
        for side, wind in (("left", "west"), ("right", "east"))
    },
}
"""Where to, behind a verb of `TRAVEL`."""

TRAVEL = _TRAVEL

_RISE = (
    "rise", "ascend", "climb", "soar", "lift", "levitate", "go up", "float up", "fly up", "move up", "drift up",
    "shoot up", "rise up", "slide up", "mount",
)  # fmt: skip
_FALL = (
    "fall", "sink", "drop", "descend", "plunge", "plummet", "come down", "fall down", "go down", "move down",
    "drift down", "dive", "tumble down", "slide down", "float down",
)  # fmt: skip
_ASIDE = ("to the {}", "{}wards", "towards the {}", "diagonally to the {}", "off to the {}", "and {}")

MOTIONS: dict[str, tuple[str, ...]] = {
    "left": ("exit on the left", "leave to the left", "cross from right to left"),
    "right": ("exit on the right", "leave to the right", "cross from left to right"),
    "up": (
        *_RISE, "lift off", "take off", "gain height", "rise into the air", "rise to the top", "climb higher",
        "ascend slowly", "go higher", "rise like a balloon", "climb up", "move higher", "be lifted up",
    ),
    "down": (
        *_FALL, "lose height", "fall to the ground", "sink to the bottom", "drop down", "sink down", "go lower",
        "fall like a stone", "descend slowly", "sink lower", "move lower", "drop to the floor", "land",
    ),
    **{
        f"{vertical}-{side}": tuple(f"{verb} {place.format(side)}" for verb in verbs for place in _ASIDE)
        for vertical, verbs in (("up", _RISE), ("down", _FALL))
        for side in ("left", "right")
    },
    "bounce": (
        "bounce", "bounce up and down", "hop", "jump", "jump up and down", "leap", "hop up and down", "spring",
        "bob up and down", "bounce around", "go up and down", "move up and down", "bounce like a ball",
        "rebound", "hop on the spot", "bounce off the floor", "skip", "jump repeatedly", "spring up and down",
        "bounce again and again", "hop about", "bounce about", "leap up and down", "jounce", "bound", "bob",
        "keep bouncing", "keep jumping", "hop merrily", "jump on the spot",
    ),
    "orbit": (
        "move in a circle", "orbit", "go around in circles", "circle around", "go round and round", "circle",
        "run in circles", "fly in a circle", "travel in a loop", "move in circles", "revolve around the middle",
        "orbit the centre", "trace a circle", "follow a circular path", "loop around", "move on a circular path",
        "travel around in a circle", "describe a circle", "go round in a circle", "circle the centre",
        "move along a circle", "orbit around the center", "run round and round", "do laps", "go in circles",
        "drive in circles", "loop round and round", "make circles", "circulate", "travel along a circular orbit",
        "move around in a ring", "move round in circles", "fly around in circles", "sweep out a circle",
    ),
    "grow": (
        "grow", "get bigger", "expand", "become larger", "swell", "get larger", "come closer", "inflate",
        "increase in size", "enlarge", "grow larger", "become bigger", "scale up", "grow bigger and bigger",
        "approach", "blow up like a balloon", "zoom in", "get bigger and bigger", "grow in size", "puff up",
        "double in size", "widen", "gain size", "balloon", "become huge", "swell up", "stretch out", "magnify",
        "broaden", "grow up",
    ),
    "shrink": (
        "shrink", "get smaller", "contract", "become smaller", "dwindle", "recede", "deflate", "diminish",
        "decrease in size", "reduce in size", "get tinier", "become tiny", "scale down", "move away", "zoom out",
        "get smaller and smaller", "shrink down", "lose size", "shrivel", "grow smaller", "shrink away",
        "halve in size", "narrow", "get littler", "compress", "become ever smaller", "shrink to a dot",
        "be reduced", "wane", "minimise", "collapse",
    ),
    "rotate": (
        "rotate", "spin", "turn around", "twirl", "turn", "whirl", "revolve", "spin around", "roll over",
        "pirouette", "turn on the spot", "rotate on its axis", "gyrate", "spin round", "swivel", "twist",
        "turn around itself", "rotate in place", "spin like a top", "revolve on its own axis", "turn round",
        "roll", "tumble", "wheel around", "rotate clockwise", "spin anticlockwise", "pivot", "turn over and over",
        "whirl around", "spin in place", "twist around", "cartwheel", "spin like a wheel", "rotate about its centre",
        "spin on its axis", "turn about its middle",
    ),
    "fade in": (
        "fade in", "slowly appear", "appear", "come into view", "emerge", "gradually appear", "materialise",
        "become visible", "materialize", "appear out of nowhere", "show up", "fade into view", "turn visible",
        "emerge from nothing", "gradually become visible", "come into sight", "appear from nothing", "turn up",
        "come into existence", "reveal itself", "come up", "slowly become visible", "fade into existence",
        "pop up", "grow visible", "become more and more visible", "dawn", "arrive out of thin air", "take shape",
        "become less transparent", "become opaque",
    ),
    "fade out": (
        "fade out", "slowly disappear", "vanish", "disappear", "fade away", "dissolve", "gradually disappear",
        "fade from view", "vanish into thin air", "melt away", "become invisible", "fade to nothing",
        "turn invisible", "go out of sight", "slowly vanish", "gradually vanish", "fade", "evaporate",
        "disappear from view", "become transparent", "slowly fade", "die away", "pale away", "ebb away",
        "turn transparent", "vanish slowly", "dematerialise", "dissolve into nothing", "fade into the background",
        "become less and less visible", "dim until it is gone", "go away",
    ),
    "still": (
        "stay still", "not move", "stand still", "rest", "stay in place", "stay put", "remain still", "sit still",
        "keep its place", "be motionless", "stand motionless", "be stationary", "remain in place", "stay fixed",
        "hold still", "stay where it is", "not move at all", "remain motionless", "sit motionless", "be static",
        "keep still", "be at rest", "be still", "hold its position", "stay at rest", "not budge", "stand in place",
        "freeze", "lie still", "not go anywhere", "be unmoving", "not stir", "stay in one spot", "sit there",
        "remain stationary", "rest in place", "stay completely still", "keep its position", "be frozen",
        "do nothing", "just sit there", "sit without moving", "remain where it is", "stay motionless",
    ),
}  # fmt: skip
"""For each motion verb phrases in their plain form, beside those of `TRAVEL` with a direction."""

NOMINALS: dict[str, tuple[str, ...]] = {
    "rotate": ("in rotation", "in a spin", "on the turn", "with a spinning motion", "that performs a pirouette"),
    "still": ("at rest", "standing still", "without any motion", "at a standstill", "in a fixed place", "motionless"),
    "bounce": ("on the bounce", "with a bouncing motion", "in a series of hops", "on a trampoline"),
    "orbit": ("in orbit", "on a circular path", "on a circular course", "in circular motion"),
    "left": ("on its way to the left", "in motion towards the left", "heading for the left edge"),
    "right": ("on its way to the right", "in motion towards the right", "heading for the right edge"),
    "up": ("on its way up", "on the rise", "in an upward motion"),
    "down": ("on its way down", "in free fall", "in a downward motion"),
    "up-left": ("on its way to the upper left", "on its way up and to the left"),
    "up-right": ("on its way to the upper right", "on its way up and to the right"),
    "down-left": ("on its way to the lower left", "on its way down and to the left"),
    "down-right": ("on its way to the lower right", "on its way down and to the right"),
    "grow": ("with growing size", "of increasing size", "ever bigger"),
    "shrink": ("with decreasing size", "of decreasing size", "ever smaller"),
    "fade in": ("fading up from nothing", "coming out of nothing"),
    "fade out": ("on the point of vanishing", "fading into nothing"),
}
"""What can follow a noun in place of a verb."""

OTHER_THINGS: tuple[str, ...] = (
    "helicopter", "submarine", "tank", "violin", "guitar", "piano", "drum", "trumpet", "hammer",
    "screwdriver", "ladder", "bucket", "spoon", "fork", "knife", "plate", "table", "chair", "sofa", "lamp", "bed",
    "window", "door", "bridge", "castle", "tower", "church", "windmill", "lighthouse", "mountain", "river", "lake",
    "volcano", "island", "forest", "meadow", "cactus", "palm tree", "sunflower", "tulip", "leaf", "apple", "banana",
    "pear", "grape", "melon", "tomato", "potato", "carrot", "onion", "bread", "cheese", "pizza", "burger", "egg",
    "spaghetti", "soup", "sandwich", "bicycle", "skateboard", "scooter", "wagon", "cart", "canoe", "raft", "yacht",
    "glider", "parachute", "kite", "balloon", "satellite", "comet", "asteroid", "moon", "sun", "candle", "torch",
    "mirror", "comb", "brush", "pencil", "pen", "book", "newspaper", "envelope", "suitcase", "backpack", "basket",
    "shoe", "boot", "sock", "glove", "hat", "scarf", "shirt", "trousers", "dress", "crown", "necklace", "sword",
    "shield", "spear", "bow", "arrow", "cannon", "anchor", "wheel", "engine", "pipe", "rope", "chain", "lock", "key",
    "phone", "laptop", "keyboard", "printer", "television", "radio", "microscope", "telescope", "telephone",
    "mouse", "squirrel", "beaver", "otter", "moose", "bison", "antelope", "giraffe", "leopard", "cheetah", "panther",
    "hyena", "jackal", "lizard", "chameleon", "iguana", "toad", "salamander", "shark", "dolphin", "squid", "crab",
    "lobster", "shrimp", "snail", "spider", "scorpion", "mosquito", "butterfly", "dragonfly", "moth", "beetle",
    "swan", "goose", "duck", "crow", "raven", "parrot", "flamingo", "penguin", "ostrich", "turkey", "vulture",
    "stork", "sparrow", "woodpecker", "owl", "knight", "king", "queen", "pirate", "ninja", "soldier", "teacher",
    "farmer", "painter", "nun", "monk", "giant", "dwarf", "elf", "fairy", "witch", "angel", "devil", "skeleton",
    "mummy", "snowman", "scarecrow", "statue", "fountain", "tent", "igloo", "barn", "fence", "well", "bench",
    "hexagon", "pentagon", "oval", "rectangle", "rhombus", "crescent", "spiral", "cylinder", "cone", "octagon",
)  # fmt: skip
"""Subjects of neither world, which an encoder learns to point at without knowing them."""

PLACES: tuple[str, ...] = tuple(phrase for phrases in emoji.PLACE_WORDS.values() for phrase in phrases)
KINDS: tuple[str, ...] = tuple(word for words in emoji.KIND_WORDS.values() for word in words if word)
