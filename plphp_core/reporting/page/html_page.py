"""report.html: the parts put into the template, with the rules that keep a page safe, written whole or not at all."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from plphp_core.records.atomic import write_atomically
from plphp_core.records.visible import visible
from plphp_core.reporting.dataset_access import DatasetAccess
from plphp_core.reporting.options import LEDGER
from plphp_core.reporting.page.fidelity import choices
from plphp_core.reporting.page.paths import cleaner
from plphp_core.reporting.page.pieces import Pieces, remove_unused, script_safe
from plphp_core.reporting.page.run_list import measured, runs
from plphp_core.reporting.page.sample_browser import collect
from plphp_core.reporting.page.sections import in_words, sections
from plphp_core.reporting.page.verdicts import ledger
from plphp_core.reporting.request import Report, ReportRequest

BUDGET = 15_000_000  # bytes of the page; with more, samples and images lie beside it
TEMPLATES = Path(__file__).parent / "templates"


def write(
    reports: Sequence[Report],
    asked: ReportRequest,
    *,
    missing: Sequence[tuple[str, str]] = (),
    variant: str = "",
    budget: int = BUDGET,
    documents: DatasetAccess | None = None,
) -> list[Path]:
    """Write `results/<profile>/report.html` about `reports`, and `report_files/` beside it where that is large.

    The old page stays whole until the new one is; the same inputs give the same bytes.

    Args:
        missing: name and reason of each report that could not be made; the page says so in its place.
        variant: what the page's name says of its choice of cells, such as ".limit=100": a page of its own.
        budget: bytes above which samples and images are put beside the page.
        documents: opens the benchmarks' data; default: as a run of the profile does.
    Returns:
        the files of the page.
    Raises:
        OSError: the disk is full or fails.
    """
    folder = asked.options.results / asked.profile
    clean = cleaner(asked.root, asked.options.results)
    name, failed = f"report{variant}.html", dict(missing)
    verdicts = ledger(reports, folder / f"claims{variant}.json", clean, failed.pop(LEDGER, ""))
    listed = sections([report for report in reports if report.name != LEDGER or verdicts.missing], clean, failed)
    found, damaged = runs(folder, clean)
    with Pieces(folder) as pieces:
        browser = collect(reports, asked, pieces, clean, documents)
        content = {
            "profile": asked.profile,
            "toy": asked.profile == "toy",
            "measured": clean(measured(reports, found)),
            "ledger": verdicts,
            "only": ", ".join(in_words(variant)),
            "tables": [section for section in listed if not section.figure],
            "figures": [section for section in listed if section.figure],
            "runs": found,
            "damaged": damaged,
            "fidelity": choices(asked.root / "docs" / "fidelity.md"),
        }
        files = [folder / name]
        html = _page(content, browser, ())
        if len(html) + pieces.size > budget:
            beside, others = pieces.beside()
            files += others
            html = _page(content, browser | {"folder": beside}, ())
        else:
            html = _page(content, browser, pieces.inline())
        write_atomically(folder / name, html)
    remove_unused(folder)
    return files


def _page(content: dict, browser: dict, inline: Iterable[tuple[str, str]]) -> bytes:
    """The page in UTF-8."""
    environment = Environment(
        loader=PackageLoader("plphp_core.reporting.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    paged = "folder" in browser
    html = environment.get_template("report.html").render(
        **content,
        browser=browser,
        paged=paged,
        policy=_policy(style, script, paged),
        style=Markup(style),
        script=Markup(script),
        meta=Markup(script_safe(browser)),
        pieces=((name, Markup(text)) for name, text in inline),
    )
    return visible(html).encode("utf-8")


def _policy(style: str, script: str, paged: bool) -> str:
    """A content security policy: nothing from anywhere, this style and this script, pictures within the page.

    Pieces beside the page are scripts that this script adds; "strict-dynamic" allows these under any address, file://
    included, where browsers disagree on what 'self' means.
    """
    more = " 'strict-dynamic'" if paged else ""
    return "; ".join(
        [
            "default-src 'none'",
            "img-src data:",
            f"style-src {_digest(style)}",
            f"script-src {_digest(script)}{more}",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"
