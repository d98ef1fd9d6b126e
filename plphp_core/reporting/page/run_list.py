"""The runs behind the page, from their manifests, and a summary of what was measured where."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from plphp_core.records.cell_result import CellResult
from plphp_core.records.errors import ReportError
from plphp_core.records.manifest import Manifest, load_manifest
from plphp_core.reporting.request import Report
from plphp_core.reporting.table_model import NA


@dataclass(frozen=True)
class ListedRun:
    """One run as the page lists it; `content` is the whole manifest."""

    name: str
    command: str
    started: str
    took: str
    status: str
    commit: str
    hardware: str
    content: str


def runs(folder: Path) -> tuple[list[ListedRun], list[str]]:
    """The runs of `folder`/manifests, oldest first, and a sentence on each file that cannot be read."""
    found, damaged = [], []
    for path in sorted((folder / "manifests").glob("*.json")):
        try:
            found.append(_listed(path.stem, load_manifest(path)))
        except ReportError as error:
            damaged.append(str(error))
    return found, damaged


def _listed(name: str, run: Manifest) -> ListedRun:
    machine = run.hardware
    cores = f"{machine['cores']} cores" if machine.get("cores") else ""
    return ListedRun(
        name=name,
        command=" ".join(run.command),
        started=run.started.replace("T", " ").replace("+00:00", " UTC"),
        took=_duration(run.started, run.ended),
        status=run.status,
        commit=(run.commit.commit or NA)[:12] + " + changes" * bool(run.commit.dirty),
        hardware=", ".join(filter(None, [*map(str, machine.get("gpus") or ()), machine.get("cpu"), cores])) or NA,
        content=json.dumps(run.content(), indent=1, ensure_ascii=False),
    )


def _duration(started: object, ended: object) -> str:
    try:
        seconds = round((datetime.fromisoformat(str(ended)) - datetime.fromisoformat(str(started))).total_seconds())
    except ValueError:
        return NA
    return f"{seconds // 60} min {seconds % 60} s" if seconds >= 60 else f"{seconds} s"


def measured(reports: Sequence[Report], found: Sequence[ListedRun]) -> list[tuple[str, list[str]]]:
    """What, on what and when: names with their lines."""
    cells = {cell.path: cell for report in reports for part in report.parts for cell in part.cells.values()}.values()
    answered = f"{len(cells)} cells (model × method with its setting × benchmark), {sum(c.n for c in cells):,} answers"
    failed = sum(cell.errors for cell in cells)
    days = sorted({run.started[:10] for run in found if run.started != NA})
    when = f"{len(found)} on {days[0]}" if len(days) == 1 else f"{len(found)}, {days[0]} to {days[-1]}" if days else NA
    lines = {
        "Models": {_checkpoint(cell) for cell in cells},
        "Measured": {answered + (f", {failed:,} sample{'s' * (failed > 1)} failed" if failed else "")},
        "Hardware": {cell.hardware for cell in cells},
        "Software": {_versions(cell) for cell in cells},
        "Runs": {when},
    }
    return [(name, sorted(said) or [NA]) for name, said in lines.items()]


def _checkpoint(cell: CellResult) -> str:
    revision = cell.revision.removeprefix("sha256:")[:10]
    return f"{cell.model} from {cell.checkpoint} ({revision}), {cell.dtype}"


def _versions(cell: CellResult) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(cell.versions.items())) or "unrecorded"
