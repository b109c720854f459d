"""The rule for prompts and captions: which characters are folded, kept and refused."""

import sys
import unicodedata

import pytest

from videogen.prompt_text import one_line


def test_all_of_unicode_is_a_blank_or_kept_but_for_control_characters() -> None:
    blanks, refused = set(), set()
    for char in map(chr, range(sys.maxunicode + 1)):
        try:
            folded = one_line(f"{char}a{char}{char}b", "`prompt`")
        except ValueError:
            refused.add(char)
            continue
        if folded == "a b":
            blanks.add(char)
        else:
            assert folded == f"{char}a{char}{char}b"
    # Unicode's White_Space, as PropList.txt has it.
    spaces = {*map(chr, range(0x09, 0x0E)), " ", "\x85", "\xa0", "\u1680", *map(chr, range(0x2000, 0x200B))}
    assert blanks == spaces | set("\u2028\u2029\u202f\u205f\u3000")
    assert refused == {char for char in map(chr, range(0xA0)) if unicodedata.category(char) == "Cc"} - blanks


def test_the_message_says_where_and_what() -> None:
    with pytest.raises(ValueError, match=r"^line 3 of x.txt holds a control character \('\\x1b'\)$"):
        one_line("a \x1b[31mred circle", "line 3 of x.txt")
