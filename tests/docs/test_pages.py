"""What documents say about the code is there: errors, public names, places of equations, links."""

import ast
import importlib
import inspect
import re

import pytest
import yaml

from tests.docs.pages import PAGES, ROOT, text

SOURCES = [path for folder in ("plphp_core", "baselines", "tasks") for path in sorted((ROOT / folder).rglob("*.py"))]
PUBLIC = ("plphp_core", "plphp_core.pruning", "plphp_core.families", "baselines")


def literals():
    """Every text in the source, with … where it is filled in."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(one.value if isinstance(one, ast.Constant) else "…" for one in node.values)


def test_every_error_that_the_faq_quotes_can_be_raised():
    everything = list(literals())
    quoted = re.findall(r"^### `(.*)`$", text("docs/faq.md"), re.M)
    assert len(quoted) > 15
    for message in quoted:
        parts = [re.escape(part) for part in message.split("…")]
        assert any(re.search(".*?".join(parts), one, re.S) for one in everything), message


def test_every_public_name_is_in_the_api_with_a_docstring():
    page = text("docs/api.md")
    shown = re.findall(r"^::: (\S+)$", page, re.M)
    for module in PUBLIC:
        for name in importlib.import_module(module).__all__:
            assert any(one.rpartition(".")[2] == name for one in shown), f"{module}.{name} is missing in docs/api.md"
    for path in shown:
        module, _, name = path.rpartition(".")
        assert inspect.getdoc(getattr(importlib.import_module(module), name)), f"{path} has no docstring"


def test_every_equation_is_where_the_map_says():
    table = text("docs/architecture.md").partition("## Equations and code")[2].partition("\n## ")[0]
    places = re.findall(r"`([\w/]+\.py)(?:: ([\w., ]+))?`", table)
    assert len(places) >= 8
    for file, names in places:
        path = next(one for one in (ROOT / file, ROOT / "plphp_core" / file) if one.exists())
        for name in filter(None, re.split(r"[., ]+", names)):
            assert re.search(rf"\b{name}\b", path.read_text(encoding="utf-8")), f"{file} has no {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor and file.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.M)
            assert anchor in {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}, target


def test_every_document_has_its_place_on_the_site():
    found = re.findall(r"([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M)
    assert set(found) >= {path.name for path in (ROOT / "docs").glob("*.md")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_are_not_indented(page):
    """GitHub shows a block inside a list; the site, whose Markdown wants four spaces there, would end the list."""
    assert not re.search(r"^ +```", page.read_text(encoding="utf-8"), re.M)


def test_the_site_asks_no_other_host():
    lines = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    theme = yaml.safe_load(re.search(r"^theme:\n(?:  .*\n)+", lines, re.M)[0])["theme"]
    assert theme["font"] is False and "http" not in lines


def test_layers_are_numbered_in_one_way():
    for page in ("architecture.md", "demo.md", "fidelity.md", "api.md", "faq.md"):
        assert "ayers are numbered from 0, as in the code; the paper counts from 1" in re.sub(
            r"\s+", " ", text(f"docs/{page}")
        ), page
