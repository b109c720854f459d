"""Captions of footage: each convention is read, the first that speaks wins, and mistakes are named."""

import io
import json
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

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
        tmp_path, a_DOT_mp4="", b_DOT_mp4="", b_DOT_txt=b"\xef\xbb\xbfy", METADATA_DOT_JSONL=table
    )
    assert [captions.of[name].text for name in ("a.mp4", "b.mp4")] == ["x", "y"]


def test_text_that_is_not_utf8_is_a_problem_of_its_video(tmp_path: Path) -> None:
    captions = captions_in(tmp_path, a_DOT_mp4="", b_DOT_mp4="", a_DOT_txt=b"caf\xe9")
    assert captions.of.keys() == {"b.mp4"}
    (problem,) = captions.problems
    assert (problem.name, problem.reason) == ("a.mp4", "caption unreadable")
    assert problem.detail == (
        "a.txt is not UTF-8 text but of another encoding, such as Latin-1 (byte 0xe9 at 3): save it as UTF-8"
    )


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


def test_blanks_are_folded_and_control_characters_named_wherever_a_caption_stands(tmp_path: Path) -> None:
    family = "👨\u200d👩\u200d👧"
    captions = captions_in(
        tmp_path,
        a_DOT_mp4="",
        b_DOT_mp4="",
        c_DOT_mp4="",
        d_DOT_mp4="",
        a_DOT_txt=f"a\u00a0red\u3000{family}\r\nmoves\tleft ",
        b_DOT_txt="a \x1b[31mred circle",
        metadata_DOT_jsonl=rows({"file_name": "c.mp4", "text": f"\u202fa  red {family}"}),
    )
    (tmp_path / "e\x01.mp4").touch()
    assert captions.of["a.mp4"].text == f"a red {family} moves left"
    assert captions.of["c.mp4"].text == f"a red {family}"
    (problem,) = captions.problems
    assert (problem.name, problem.reason) == ("b.mp4", "caption unreadable")
    assert problem.detail == "b.txt holds a control character ('\\x1b')"
    problem = captions_in(tmp_path).problems[-1]
    assert problem.detail == "its file name holds a control character ('\\x01')"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_table_as_spreadsheets_write_it_is_read(tmp_path: Path, delimiter: str, end: str) -> None:
    lines = [
        "\ufefffile_name, caption",
        'a.mp4, "a red circle, then; a\tring"',
        ",",
        'b.mp4,"a ""big"" ring\nof two lines",',
    ]
    content = end.join(line.replace(",", delimiter) if line[:2] != "a." else line for line in lines) + end
    content = content.replace("a.mp4,", f"a.mp4{delimiter}")
    captions = captions_in(tmp_path, a_DOT_mp4="", b_DOT_mp4="", metadata_DOT_csv=content)
    assert captions.of["a.mp4"].text == "a red circle, then; a ring"
    assert captions.of["b.mp4"].text == 'a "big" ring of two lines'
    assert captions.problems == ()


def test_a_row_may_name_its_video_by_an_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "footage"
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    table: list[dict[str, object]] = [
        {"file_name": str(folder / "sub" / "a.mp4"), "text": "one"},
        {"file_name": str(tmp_path / "link" / "sub" / ".." / "b.mp4"), "text": "two"},
        {"file_name": "../../footage/c.mp4", "text": "three"},
        {"file_name": str(tmp_path / "d.mp4"), "text": "elsewhere"},
    ]
    names = {f"{name}_DOT_mp4": "" for name in ("sub__a", "b", "c")}
    captions_in(folder, **names, sub__metadata_DOT_jsonl=rows(*table))
    monkeypatch.chdir(tmp_path)
    for root in (folder, tmp_path / "link", Path("footage"), Path("link")):
        captions = read_captions(find_footage(root))
        texts = {name: caption.text for name, caption in captions.of.items()}
        assert texts == {"sub/a.mp4": "one", "b.mp4": "two", "c.mp4": "three"}
        assert [problem.name for problem in captions.problems] == [str(tmp_path / "d.mp4")]


def test_numbered_pictures_are_named_by_their_folder_or_by_what_precedes_the_numbers(tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    for prefix in ("a_red-car.v2/frame_", "b/x_", "c/", "d/one_", "d/two_", "e/", "loose_"):
        for number in range(8):
            path = tmp_path / f"{prefix}{number:03d}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(picture.getvalue())
    captions = captions_in(
        tmp_path,
        b_DOT_txt="beside the folder",
        d__two_DOT_txt="beside the pictures",
        metadata_DOT_csv="file_name,text\nc,by the folder\ne/000.png,by a picture\n",
    )
    assert {name: caption.text for name, caption in captions.of.items()} == {
        "a_red-car.v2/frame_[000-007].png": "a red car.v2",
        "b/x_[000-007].png": "beside the folder",
        "c/[000-007].png": "by the folder",
        "d/one_[000-007].png": "one",
        "d/two_[000-007].png": "beside the pictures",
        "e/[000-007].png": "by a picture",
        "loose_[000-007].png": "loose",
    }
    assert captions.problems == ()


def test_of_several_rows_for_a_video_the_first_is_used_and_the_others_are_told(tmp_path: Path) -> None:
    captions = captions_in(
        tmp_path,
        a_DOT_mp4="",
        b_DOT_mp4="",
        metadata_DOT_csv="file_name,text\na.mp4,one\nb.mp4,two\na.mp4,three\n",
        metadata_DOT_jsonl=rows({"file_name": "./b.mp4", "text": "two"}),
    )
    assert {name: caption.text for name, caption in captions.of.items()} == {"a.mp4": "one", "b.mp4": "two"}
    assert captions.unused_rows == (
        "metadata.csv, line 4 is not used: metadata.csv, line 2 gives a.mp4 another caption",
        "metadata.jsonl, line 1 is not used: metadata.csv, line 3 gives b.mp4 the same caption",
    )


@pytest.mark.parametrize(
    ("table", "content", "message"),
    [
        ("metadata_DOT_jsonl", b"\xff", "metadata.jsonl is not UTF-8 text"),
        ("metadata_DOT_csv", "file_name,text\na.mp4,é".encode("latin-1"), "such as Latin-1 .byte 0xe9 at 21"),
        ("metadata_DOT_csv", "file_name,text\na.mp4,x".encode("utf-16"), "metadata.csv is UTF-16"),
        ("metadata_DOT_csv", "file_name,text\na.mp4,x".encode("utf-16-be"), "metadata.csv is UTF-16"),
        ("metadata_DOT_csv", "file_name,text,text\na.mp4,x,y", "line 1: there are several columns 'text'"),
        ("metadata_DOT_csv", "file_name,prompt\na.mp4,x", "line 1: there is no `text` .* 'prompt': name it"),
        (
            "metadata_DOT_jsonl",
            '{"file_name": "a.mp4", "prompt": "x"}',
            "'a.mp4', only 'file_name', 'prompt'",
        ),
        (
            "metadata_DOT_jsonl",
            '{"file_name": "a.mp4", "text": "x", "text": "y"}',
            "line 1: .* several values of 'text'",
        ),
        (
            "metadata_DOT_jsonl",
            '{"file_name": "a.mp4", "text": "x"}\n{oh',
            "metadata.jsonl, line 2: not JSON",
        ),
        ("metadata_DOT_jsonl", "[1, 2]", "line 1: must be an object"),
        ("metadata_DOT_jsonl", '{"text": "x"}', "line 1: there is no `file_name`"),
        ("metadata_DOT_jsonl", '{"file_name": "a.mp4"}', "there is no `text` and no `caption` for 'a.mp4'"),
        ("metadata_DOT_jsonl", '{"file_name": "a.mp4", "text": 3}', "there is no `text`"),
        ("metadata_DOT_jsonl", "[" * 100_000, "metadata.jsonl, line 1: not JSON"),
        (
            "metadata_DOT_jsonl",
            '{"file_name": "a.mp4", "text": "\\u0007"}',
            "line 1 holds a control character",
        ),
        ("metadata_DOT_jsonl", '{"file_name": "a\\u0000", "text": "x"}', "line 1: `file_name` holds a null"),
        ("metadata_DOT_csv", "name,text\na.mp4,x\n", "metadata.csv, line 1: there is no `file_name` among"),
        ("metadata_DOT_csv", "file_name|text\na.mp4|x\n", "which are 'file_name.text': .* commas"),
        ("metadata_DOT_csv", "file_name,text\nb.mp4,a ring\na.mp4\n", "line 3: there is no `text`"),
        (
            "metadata_DOT_csv",
            "file_name,text\na.mp4,a red circle, then\n",
            "line 2: it has 3 cells, .* names 2",
        ),
        (
            "metadata_DOT_csv",
            "file_name;text\na.mp4;a red circle; then\n",
            "line 2: it has 3 cells, .* names 2",
        ),
        (
            "metadata_DOT_csv",
            'file_name,text\n\na.mp4,"a red\nb.mp4,ring\n',
            "line 3: not CSV: unexpected end",
        ),
        ("metadata_DOT_csv", 'file_name,text\na.mp4,"a red\nb.mp4,"ring"\n', "line 2: not CSV: ',' expected"),
        (
            "metadata_DOT_csv",
            'file_name,text\na.mp4,"red\nb.mp4,ring"\n',
            "line 2: .* over the row of 'b.mp4'",
        ),
        (
            "metadata_DOT_csv",
            'text,file_name\n"red,a.mp4\nring",b.mp4\n',
            "line 2: .* over the row of 'a.mp4'",
        ),
        ("metadata_DOT_csv", "file_name,text\na.mp4," + "x" * 140_000, "line 2: not CSV: field larger"),
    ],
)
def test_a_table_that_cannot_be_read_is_an_error(
    tmp_path: Path, table: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        captions_in(tmp_path, a_DOT_mp4="", **{table: content})
