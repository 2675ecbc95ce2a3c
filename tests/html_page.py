"""A page as a browser would see it, for tests that look at the HTML itself."""

import json
from html.parser import HTMLParser

VOID = ("meta", "link", "col", "line", "circle", "input")


class Page(HTMLParser):
    """Elements with attributes, and the text inside each kind of element; fails where tags do not nest."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]][-1] += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self) -> str:
        visible = [text for tag, texts in self.texts.items() if tag not in ("script", "style") for text in texts]
        return "\n".join(visible)

    def data(self) -> dict[str, object]:
        """What the scripts read."""
        data = parse_strictly(self.texts["script"][0])
        assert isinstance(data, dict)
        return data


def parse_strictly(text: str) -> object:
    """Read JSON without Python's NaN and infinities."""

    def refuse(constant: str) -> object:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)
