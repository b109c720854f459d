"""Captions of footage: each convention is read, the first that speaks wins, and mistakes are named."""

import json
import unicodedata
from pathlib import Path

import pytest

from videogen.data.footage.captions import FROM_FILE_NAME, Captions, read_captions
from videogen.data.footage.discovery import find_footage


def captions_in(folder: Path, **files: str | bytes) -> Captions:
    """The captions of a folder of these files, where `__` stands for `/` and `_DOT_` for a dot."""
    for key, content in files.items():
        path = folder / key.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_captions(find_footage(folder))


def rows(*entries: dict[str, object]) -> str:
    return "\n".join(json.dumps(entry) for entry in entries)


def test_a_table_goes_before_a_text_file_and_that_before_the_name(tmp_path: Path) -> None:
    captions = captions_in(
        tmp_path,
        a_DOT_mp4="",
        b_DOT_mp4="",
        Red_car__Number_2_DOT_mp4="",
        a_DOT_txt="from the text file",
        b_DOT_caption="  from \n the caption file \n",
        metadata_DOT_jsonl=rows({"file_name": "a.mp4", "text": "from the table"}),
    )
    assert {name: caption.text for name, caption in captions.of.items()} == {
        "a.mp4": "from the table",
        "b.mp4": "from the caption file",
        "Red_car/Number_2.mp4": "Number 2",
    }
    origins = [captions.of[name].origin for name in ("a.mp4", "b.mp4", "Red_car/Number_2.mp4")]
    assert origins == ["metadata.jsonl", "b.caption", FROM_FILE_NAME]
    assert captions.of["a.mp4"].notes == ("a.txt is not used: metadata.jsonl goes first",)
    assert captions.problems == ()


def test_a_table_speaks_of_files_relative_to_itself(tmp_path: Path) -> None:
    captions = captions_in(
        tmp_path,
        deep__er__a_DOT_mp4="",
        b_DOT_mp4="",
        deep__metadata_DOT_csv='file_name,caption\ner/a.mp4,"one, two"\n../b.mp4,three\n',
    )
    assert captions.of["deep/er/a.mp4"].text == "one, two"
    assert captions.of["b.mp4"].text == "three"


def test_names_that_look_the_same_are_the_same(tmp_path: Path) -> None:
    decomposed, composed = (unicodedata.normalize(form, "Zoë") for form in ("NFD", "NFC"))
    (tmp_path / f"{decomposed}.mp4").touch()
    (tmp_path / f"{decomposed}2.mp4").touch()
    (tmp_path / f"{composed}2.txt").write_text("beside")
    captions = captions_in(tmp_path, metadata_DOT_jsonl=rows({"file_name": f"{composed}.mp4", "text": "x"}))
    assert captions.of[f"{decomposed}.mp4"].text == "x"
    assert captions.of[f"{decomposed}2.mp4"].text == "beside"


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    table = b"\xef\xbb\xbf" + rows({"file_name": "a.mp4", "text": "x"}).encode()
    captions = captions_in(
        tmp_path, a_DOT_mp4="", b_DOT_mp4="", b_DOT_txt=b"\xef\xbb\xbfy", metadata_DOT_jsonl=table
    )
    assert [captions.of[name].text for name in ("a.mp4", "b.mp4")] == ["x", "y"]


def test_text_that_is_not_utf8_is_a_problem_of_its_video(tmp_path: Path) -> None:
    captions = captions_in(tmp_path, a_DOT_mp4="", b_DOT_mp4="", a_DOT_txt=b"caf\xe9")
    assert captions.of.keys() == {"b.mp4"}
    (problem,) = captions.problems
    assert (problem.name, problem.reason) == ("a.mp4", "caption unreadable")
    assert problem.detail == "a.txt is not UTF-8 text (byte 0xe9 at 3): save it as UTF-8"


def test_captions_of_what_is_not_there_are_problems(tmp_path: Path) -> None:
    captions = captions_in(
        tmp_path,
        a_DOT_mp4="",
        a_DOT_txt="a",
        lost_DOT_caption="nobody's",
        forgotten_DOT_txt="nobody's",
        docs__README_DOT_txt="no caption at all",
        metadata_DOT_jsonl=rows({"file_name": "gone.mp4", "text": "x"}),
    )
    assert {problem.name: problem.reason for problem in captions.problems} == {
        "gone.mp4": "missing",
        "lost.caption": "missing",
        "forgotten.txt": "missing",
    }
    assert "named in metadata.jsonl, line 1" in captions.problems[0].detail


def test_an_empty_caption_is_told(tmp_path: Path) -> None:
    captions = captions_in(tmp_path, a_DOT_mp4="", a_DOT_txt=" \n")
    assert captions.of["a.mp4"].text == ""
    assert captions.of["a.mp4"].notes == ("the caption in a.txt is empty",)


@pytest.mark.parametrize(
    ("table", "content", "message"),
    [
        ("metadata_DOT_jsonl", b"\xff\xfe", "metadata.jsonl is not UTF-8 text"),
        (
            "metadata_DOT_jsonl",
            '{"file_name": "a.mp4", "text": "x"}\n{oh',
            "metadata.jsonl, line 2: not JSON",
        ),
        ("metadata_DOT_jsonl", "[1, 2]", "line 1: must be an object"),
        ("metadata_DOT_jsonl", '{"text": "x"}', "line 1: there is no `file_name`"),
        ("metadata_DOT_jsonl", '{"file_name": "a.mp4"}', "there is no `text` and no `caption` for 'a.mp4'"),
        ("metadata_DOT_jsonl", '{"file_name": "a.mp4", "text": 3}', "there is no `text`"),
        ("metadata_DOT_csv", "name,text\na.mp4,x\n", "metadata.csv, line 2: there is no `file_name`"),
    ],
)
def test_a_table_that_cannot_be_read_is_an_error(
    tmp_path: Path, table: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        captions_in(tmp_path, a_DOT_mp4="", **{table: content})
