"""The runs behind the page, from their manifests, and a summary of what was measured where."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from plphp_core.reporting.request import Report
from plphp_core.reporting.table_model import NA


class ListedRun(BaseModel):
    """What the page lists of a manifest (`records.manifest`); `content` is all of it."""

    name: str
    content: str
    started: datetime
    ended: datetime | None = None
    status: str = NA
    command: list[str] = []
    commit: dict[str, Any] = {}
    hardware: dict[str, Any] = {}

    @property
    def took(self) -> str:
        if self.ended is None:
            return NA
        minutes, seconds = divmod(round((self.ended - self.started).total_seconds()), 60)
        return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"

    @property
    def machine(self) -> str:
        cores = self.hardware.get("cores")
        parts = [*(self.hardware.get("gpus") or ()), self.hardware.get("cpu"), cores and f"{cores} cores"]
        return ", ".join(str(part) for part in parts if part) or NA

    @property
    def code(self) -> str:
        return str(self.commit.get("commit") or NA)[:12] + (" + changes" if self.commit.get("dirty") else "")


def runs(folder: Path) -> tuple[list[ListedRun], list[str]]:
    """The runs of `folder`/manifests, oldest first, and the names of files that cannot be read."""
    found, damaged = [], []
    for path in sorted((folder / "manifests").glob("*.json")):
        try:
            content = path.read_text(encoding="utf-8")
            found.append(
                ListedRun.model_validate({**json.loads(content), "name": path.stem, "content": content.strip()})
            )
        except (OSError, ValueError, TypeError):
            damaged.append(path.name)
    return found, damaged


def measured(reports: Sequence[Report], found: Sequence[ListedRun]) -> list[tuple[str, list[str]]]:
    """What, on what and when: names with their lines."""
    cells = {cell.path: cell for report in reports for part in report.parts for cell in part.cells.values()}.values()
    answered = f"{len(cells)} cells (model × method with its setting × benchmark), {sum(c.n for c in cells):,} answers"
    failed = sum(cell.errors for cell in cells)
    days = sorted({f"{run.started:%Y-%m-%d}" for run in found})
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
