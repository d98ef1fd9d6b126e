"""A results folder as a submission: its finished cells, checked, and what cannot be used of it.

Nothing in such a folder is trusted. Cells are read and checked by `records`, links are not followed, paths inside of
records are never opened, and where somebody's files lie is not shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from plphp_core.records.cell_result import CellResult
from plphp_core.records.errors import ReportError

LARGEST = 256 * 2**20  # bytes of a cell file; one of 10,000 documents has 2 MB


@dataclass(frozen=True)
class Submission:
    """`name`: of its folder, the same for no two; damaged: name of a file, or of the folder → what is wrong with it."""

    name: str
    cells: Sequence[CellResult] = ()
    damaged: dict[str, str] = field(default_factory=dict)


def submissions(folders: Sequence[Path], profile: str) -> list[Submission]:
    """What each of these folders holds of a profile. Each is a results folder, or the profile's folder itself."""
    return [_submission(folder, name, profile) for folder, name in zip(folders, _names(folders), strict=True)]


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' own names; where two have the same, with the folder that they are in, or with a number."""
    last = [folder.name for folder in folders]
    names = [
        one if last.count(one) == 1 else "/".join(folder.parts[-2:]) for folder, one in zip(folders, last, strict=True)
    ]
    return [one if names.count(one) == 1 else f"{one} ({at})" for at, one in enumerate(names, start=1)]


def _submission(folder: Path, name: str, profile: str) -> Submission:
    if not folder.is_dir():
        return Submission(name, damaged={name: "is not a folder" if folder.exists() else "does not exist"})
    inside = [one for one in (folder / profile / "cells", folder / "cells") if one.is_dir() and not one.is_symlink()]
    paths = sorted(path for path in inside[0].glob("*.json") if not path.name.startswith(".")) if inside else []
    if not paths:
        others = sorted({path.parent.parent.name for path in folder.glob("*/cells/*.json")})
        hint = f"; it has some of {', '.join(others)}: profile={others[0]}" if others else ""
        return Submission(name, damaged={name: f"has no finished cells of profile {profile!r}{hint}"})
    cells, damaged = [], {}
    for path in paths:
        try:
            cells.append(_cell(path, profile))
        except (ReportError, OSError) as error:
            damaged[path.name] = _reason(error, path)
    return Submission(name, cells, damaged)


def _cell(path: Path, profile: str) -> CellResult:
    """A cell as it was written. Raises ReportError, OSError."""
    if path.is_symlink():
        raise ReportError("is a link")
    if path.stat().st_size > LARGEST:
        raise ReportError(f"has more than {LARGEST // 2**20} MiB")
    cell = CellResult.load(path, remedy="")
    if cell.profile != profile:
        raise ReportError(f"belongs to profile {cell.profile!r}")
    if not cell.intact():
        raise ReportError("was changed after it was written: its content has another hash")
    # weights of a folder are known by their hash; where they lay on somebody's machine says nothing
    local = cell.revision.startswith("sha256:")
    return cell.model_copy(update={"checkpoint": Path(cell.checkpoint).name}) if local else cell


def _reason(error: Exception, path: Path) -> str:
    """What is wrong, without where the file lies."""
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    return said.removeprefix(f"{path}: ").replace(str(path), path.name).strip("; ")
