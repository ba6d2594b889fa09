"""A page as its reader meets it: elements, visible text, and what holds for every page of the suite."""

import re
from html.parser import HTMLParser
from itertools import pairwise
from urllib.parse import unquote

VOID = {"meta", "link", "img", "br", "input"}


class Page(HTMLParser):
    """The page as elements and visible text; fails on tags that are not closed in order."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.open, self.words, self.source = [], [], [], path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())
        self.markup = re.sub("<script.*?</script>", "", self.source, flags=re.S)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title", "script"):
            self.words.append(data)

    def all(self, tag, **wanted):
        return [a for t, a in self.elements if t == tag and wanted.items() <= a.items()]


def assert_well_formed(page, files=False):
    """Nothing is fetched or run by an attribute, links and labels lead somewhere, headings and regions are in order.

    files: whether it may link to files beside it.
    """
    assert not re.search(r"https?://|url\(|@import", page.markup.replace("http-equiv", ""))
    targets = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    for _, attributes in page.elements:
        assert attributes.get("src", "data:").startswith("data:")
        address = attributes.get("href", "data:,")
        beside = files and not re.match("[a-z]+:|/|#", address)
        assert address == "data:," or unquote(address[1:]) in targets or beside
        assert attributes.get("aria-labelledby") in {None, *targets}
        assert not any(name.startswith("on") for name in attributes)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert (levels[0], levels.count(1)) == (1, 1)
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(image["alt"] for image in page.all("img"))
    assert all(svg["aria-label"] for svg in page.all("svg"))
    assert all(part["tabindex"] == "0" for part in page.all("div", **{"class": "scroll"}))
    assert "prefers-color-scheme: dark" in page.source
