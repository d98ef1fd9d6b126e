"""report.html: the parts put into the template, with the rules that keep a page safe, written whole or not at all."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from plphp_core.claims.claim_finding import counts, headline
from plphp_core.records.atomic import write_atomically
from plphp_core.records.record import visible
from plphp_core.reporting.dataset_access import DatasetAccess
from plphp_core.reporting.page.fidelity import fidelity_choices
from plphp_core.reporting.page.pieces import Pieces, remove_unused, script_safe
from plphp_core.reporting.page.sample_browser import collect
from plphp_core.reporting.page.sections import in_words, measured, runs, sections, took, whole
from plphp_core.reporting.request import LEDGER, Report, ReportRequest

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
    clean = path_cleaner(asked.root, asked.options.results)
    failed = dict(missing)
    findings = [one for report in reports for one in report.findings]
    unjudged = failed.pop(LEDGER, "they were not asked for").rstrip(".") + "."
    listed = sections([report for report in reports if not report.findings], failed)
    found, damaged = runs(asked.folder)
    files = [asked.folder / f"report{variant}.html"]
    with Pieces(asked.folder) as pieces:
        content: dict[str, Any] = {
            "browser": collect(reports, asked, pieces, clean, documents),
            "profile": asked.profile,
            "measured": measured(reports, found),
            "findings": findings,
            "counts": counts(findings),
            "headline": headline(findings) if findings else ("No verdict", unjudged),
            "only": ", ".join(in_words(variant)),
            "third_parties": [section for section in listed if section.third],
            "tables": [section for section in listed if not (section.figure or section.third)],
            "figures": [section for section in listed if section.figure],
            "runs": found,
            "damaged": damaged,
            "fidelity": fidelity_choices(asked.root / "docs" / "fidelity.md"),
        }
        html = filled_template("report.html", content, (), clean)
        if len(html) + pieces.size > budget:
            content["browser"]["folder"], others = pieces.beside()
            files += others
            html = filled_template("report.html", content, (), clean)
        else:
            html = filled_template("report.html", content, pieces.inline(), clean)
        write_atomically(files[0], html)
    remove_unused(asked.folder)
    return files


def path_cleaner(root: Path, results: Path) -> Callable[[str], str]:
    """What rewrites a text's paths below `root` and `results` to relative ones and the home folder to `~`: a report is
    passed on, the machine is not.
    """
    shorter = {Path.home(): "~", results.absolute(): "results", root.absolute(): "."}
    known = {str(one): short for path, short in shorter.items() for one in (path, path.resolve()) if len(str(one)) > 1}
    names = sorted(known, key=len, reverse=True)
    # what follows must not go on with the folder's own name
    pattern = re.compile("|".join(rf"{re.escape(name)}(?![\w-])" for name in names))

    def clean(text: str) -> str:
        # "./" in front of a relative path says nothing
        return pattern.sub(lambda match: known[match[0]], text).replace(" ./", " ").removeprefix("./")

    return clean


def filled_template(
    name: str, content: dict[str, Any], inline: Iterable[tuple[str, str]] = (), clean: Callable[[str], str] = str
) -> bytes:
    """A page in UTF-8. Every text that enters it is cleaned of paths and escaped; only Markup is taken as it is."""
    environment = Environment(
        loader=PackageLoader("plphp_core.reporting.page"),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) or not isinstance(value, str) else clean(str(value)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"took": took, "whole": whole}
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    html = environment.get_template(name).render(
        **content,
        policy=_policy(style, script, "folder" in content["browser"]),
        style=Markup(style),
        script=Markup(script),
        meta=Markup(script_safe(content["browser"])),
        pieces=((name, Markup(text)) for name, text in inline),
    )
    return visible(html).encode("utf-8")


def _policy(style: str, script: str, paged: bool) -> str:
    """A content security policy: nothing from anywhere, this style and this script, pictures within the page.

    Pieces beside the page are scripts that this script adds; "strict-dynamic" allows these under any address, file://
    included, where browsers disagree on what 'self' means.
    """
    digests = (hashlib.sha256(text.encode("utf-8")).digest() for text in (style, script))
    style, script = (f"'sha256-{base64.b64encode(digest).decode('ascii')}'" for digest in digests)
    more = " 'strict-dynamic'" if paged else ""
    rules = ("default-src 'none'", "img-src data:", f"style-src {style}", f"script-src {script}{more}")
    return "; ".join([*rules, "base-uri 'none'", "form-action 'none'"])
