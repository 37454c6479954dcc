from __future__ import annotations

from html.parser import HTMLParser

EMPTY = frozenset(
    "meta img line circle polyline polygon rect br input link area base col embed hr".split()
)


class Page(HTMLParser):
    """Collects what a browser would act on: tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str, css: str = "") -> list[dict[str, str | None]]:
        """The attributes of every such tag, of a class if one is given."""
        found = [attrs for name, attrs in self.tags if name == tag]
        return [a for a in found if not css or css in (a.get("class") or "").split()]
