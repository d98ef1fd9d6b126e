"""docs/fidelity.md as part of the page: headings one level down, links inside it, nothing but text and tables."""

from __future__ import annotations

import re
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

PREFIX = "fidelity-"


def choices(path: Path) -> Markup | None:
    """The document as HTML; None where it is missing. Mark-up written inside it is shown, not obeyed."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return None
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(text)
    for at, token in enumerate(tokens):
        token.attrs.pop("style", None)  # of aligned columns; the page's rules allow no styles in the text
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
        if token.type == "heading_open":
            token.attrSet("id", PREFIX + _anchor(tokens[at + 1].content))
        if token.children:
            token.children = _inner(token.children)
    body = [token for token in tokens if token.type != "html_block"]
    first = next((at for at, token in enumerate(body) if token.type == "heading_close"), -1)
    html = parser.renderer.render(body[first + 1 :], parser.options, {})  # without its title: the section has one
    html = html.replace("<table>", '<div class="scroll" tabindex="0" role="region" aria-label="Table"><table>')
    return Markup(html.replace("</table>", "</table></div>").replace("<th>", '<th scope="col">'))


def _inner(children: list[Token]) -> list[Token]:
    """Links within the document lead into its section of the page; those to other files become text."""
    kept, open_link = [], True
    for token in children:
        if token.type == "link_open":
            target = str(token.attrs["href"])
            if target.startswith("#"):
                token.attrSet("href", f"#{PREFIX}{target[1:]}")
            open_link = target.startswith(("#", "https://"))
            if target.startswith("https://"):
                token.attrSet("rel", "noreferrer")
        if token.type == "image" or (token.type in ("link_open", "link_close") and not open_link):
            continue
        kept.append(token)
    return kept


def _anchor(heading: str) -> str:
    """As GitHub makes them."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
