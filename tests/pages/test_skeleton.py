"""Pages: well formed, without other files, and no text breaks out of its place."""

import base64
from html.parser import HTMLParser

from videogen.pages.skeleton import page, picture, table, text_list

ODD = "<script>\"a\" & 'b'</script>"


class Elements(HTMLParser):
    """All elements with their attributes, and the text inside each; a tag that is not closed fails."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1], data.strip()))

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_a_page_is_whole_and_its_title_is_text() -> None:
    html = page(ODD, ["<h1>one</h1>", "<p>two</p>"], "p { color: red; }")
    elements = Elements(html)
    assert html.startswith("<!DOCTYPE html>") and elements.found[0] == ("html", {"lang": "en"})
    assert ("title", ODD) in elements.texts
    assert elements.texts[-2:] == [("h1", "one"), ("p", "two")]
    (style,) = [text for tag, text in elements.texts if tag == "style"]
    assert style.endswith("p { color: red; }")  # after what all pages share, which it may change
    assert not elements.attributes("script") and "http" not in html.replace("http-equiv", "")


def test_a_table_has_all_cells_and_a_short_row_fills_it() -> None:
    elements = Elements(table(["", "a", "b"], [["1", "2", "3"], ["x", "failed"]]))
    assert [text for tag, text in elements.texts if tag == "th"] == ["a", "b"]
    assert [text for tag, text in elements.texts if tag == "td"] == ["1", "2", "3", "x", "failed"]
    assert elements.attributes("td")[-2:] == [{}, {"colspan": "2"}]
    assert not Elements(table([], [["1", "2"]])).attributes("th")


def test_texts_and_pictures() -> None:
    elements = Elements(text_list([ODD, "b"], 'ul class="advice"'))
    assert elements.texts == [("li", ODD), ("li", "b")] and elements.attributes("ul") == [{"class": "advice"}]
    (image,) = Elements(picture(b"GIF", ODD, "width:9px", kind="gif")).attributes("img")
    source = f"data:image/gif;base64,{base64.b64encode(b'GIF').decode()}"
    assert image == {"alt": ODD, "style": "width:9px", "src": source}
    assert "style" not in Elements(picture(b"")).attributes("img")[0]
