"""docs/fidelity.md as part of the page: headings one level down, links inside it, nothing but text and tables."""

from __future__ import annotations

import re
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

PREFIX = "fidelity-"


def fidelity_choices(path: Path) -> Markup | None:
    """The document as HTML; None where it is missing. Mark-up written inside it is shown, not obeyed."""
    if not path.is_file():
        return None
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    tokens = parser.parse(path.read_text(encoding="utf-8").partition("\n")[2])  # without its title: the section has one
    for at, token in enumerate(tokens):
        token.attrs.pop("style", None)  # of aligned columns; the page's rules allow no styles in the text
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
        if token.type == "heading_open":  # anchors as GitHub makes them
            anchor = re.sub(r"[^\w\- ]", "", tokens[at + 1].content.lower()).replace(" ", "-")
            token.attrSet("id", PREFIX + anchor)
        token.children = _links(token.children) if token.children else None
    html = parser.renderer.render(tokens, parser.options, {})
    html = html.replace("<table>", '<div class="scroll" tabindex="0" role="region" aria-label="Table"><table>')
    return Markup(html.replace("</table>", "</table></div>").replace("<th>", '<th scope="col">'))


def _links(children: list[Token]) -> list[Token]:
    """Links within the document lead into its section of the page; those to other files become text."""
    kept, shown = [], True
    for token in children:
        if token.type == "link_open":
            target = str(token.attrs["href"])
            shown = target.startswith(("#", "https://"))
            if target.startswith("#"):
                token.attrSet("href", f"#{PREFIX}{target[1:]}")
            else:
                token.attrSet("rel", "noreferrer")
        if token.type not in ("link_open", "link_close") or shown:
            kept.append(token)
    return kept
