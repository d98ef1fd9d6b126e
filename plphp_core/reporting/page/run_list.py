"""The runs behind the page, from their manifests, and a summary of what was measured where."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from plphp_core.records.errors import ReportError
from plphp_core.records.manifest import Manifest
from plphp_core.reporting.request import Report
from plphp_core.reporting.table_model import NA


def runs(folder: Path) -> tuple[list[Manifest], list[str]]:
    """The runs of `folder`/manifests, oldest first, and for each file that cannot be read a sentence that says why."""
    found, damaged = [], []
    for path in sorted((folder / "manifests").glob("*.json")):
        try:
            found.append(Manifest.load(path))
        except ReportError as error:
            damaged.append(str(error))
    return found, damaged


def whole(run: Manifest) -> str:
    """All of a manifest, to be read."""
    return json.dumps(run.content(), indent=1, ensure_ascii=False)


def took(run: Manifest) -> str:
    """How long a run took; n/a where it has not ended, or was killed."""
    if run.ended is None:
        return NA
    started, ended = map(datetime.fromisoformat, (run.started, run.ended))
    minutes, seconds = divmod(round((ended - started).total_seconds()), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def measured(reports: Sequence[Report], found: Sequence[Manifest]) -> list[tuple[str, list[str]]]:
    """What, on what and when: names with their lines."""
    cells = {cell.path: cell for report in reports for part in report.parts for cell in part.cells.values()}.values()
    answered = f"{len(cells)} cells (model × method with its setting × benchmark), {sum(c.n for c in cells):,} answers"
    failed = sum(cell.errors for cell in cells)
    days = sorted({run.started[:10] for run in found})
    lines = {
        "Models": {
            f"{cell.model} from {cell.checkpoint} ({cell.revision.removeprefix('sha256:')[:10]}), {cell.dtype}"
            for cell in cells
        },
        "Measured": {answered + (f", {failed:,} sample{'s' * (failed > 1)} failed" if failed else "")},
        "Hardware": {cell.hardware for cell in cells},
        "Software": {
            ", ".join(f"{name} {at}" for name, at in sorted(cell.versions.items())) or "unrecorded" for cell in cells
        },
        "Runs": {f"{len(found)}, {' to '.join(dict.fromkeys((days[0], days[-1])))}"} if days else set(),
    }
    return [(name, sorted(said) or [NA]) for name, said in lines.items()]
