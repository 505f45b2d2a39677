"""A reader of HTML pages that knows nothing of how they are made."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "link", "img", "input", "br", "hr"}


@dataclass
class Element:
    """A tag of the page with what is in it."""

    tag: str
    attributes: dict[str, str]
    children: list = field(default_factory=list)

    @property
    def text(self) -> str:
        """All words within, joined."""
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    @property
    def classes(self) -> list[str]:
        return self.attributes.get("class", "").split()

    def all(self, tag: str = "", kind: str = "") -> list["Element"]:
        """Every element within of that tag and class, in order."""
        found = []
        for child in self.children:
            if isinstance(child, Element):
                if (not tag or child.tag == tag) and (not kind or kind in child.classes):
                    found.append(child)
                found += child.all(tag, kind)
        return found

    def with_id(self, name: str) -> "Element | None":
        return next((one for one in self.all() if one.attributes.get("id") == name), None)


class PageReader(HTMLParser):
    """Builds the tree, and insists that every tag is closed in its turn and every id is given once."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.root = Element("page", {})
        self.open = [self.root]
        self.feed(text)
        self.close()
        assert len(self.open) == 1, f"never closed: {[one.tag for one in self.open[1:]]}"
        ids = [one.attributes["id"] for one in self.root.all() if "id" in one.attributes]
        assert len(set(ids)) == len(ids)

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(set(names)) == len(names), f"<{tag}> says {names} twice"
        element = Element(tag, {name: value or "" for name, value in attributes})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attributes):
        assert any(one.tag == "svg" for one in self.open), f"<{tag}/>"
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        self.open[-1].children.append(data)


def read_page(path: Path) -> Element:
    """The page in a file."""
    return PageReader(path.read_text(encoding="utf-8")).root
