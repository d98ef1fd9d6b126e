"""Room for results and for what is still to be downloaded."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from plphp_core.preflight.case import Case
from plphp_core.preflight.check import Finding, check, failed, ok
from plphp_core.preflight.units import gib

PER_ANSWER = 4096  # bytes, more than a journal line and a result's share take
LEAST = 100 * 2**20  # logs, manifests, tables


@check("Results folder")
def results_folder(case: Case) -> Iterator[Finding]:
    """Nothing is left behind: the folder itself is made by the run."""
    folder = case.settings.results
    try:
        with tempfile.TemporaryFile(dir=existing(folder)) as file:
            file.write(b"x" * 2**16)
            file.flush()
    except OSError as error:
        yield failed(
            f"{folder} cannot be written: {error.strerror}",
            f"see its permissions and the disk (`df -h {existing(folder)}`), or choose another folder with results=…",
        )
        return
    yield ok(f"{folder} can be written")


@check("Disk")
def disk(case: Case) -> Iterator[Finding]:
    from datasets.config import HF_DATASETS_CACHE
    from huggingface_hub.constants import HF_HUB_CACHE

    settings = case.settings
    cells = len(settings.methods)
    answers = sum(min(task.samples or 0, settings.limit or task.samples or 0) for task in case.tasks) * cells
    wanted = [("results", settings.results, LEAST + answers * PER_ANSWER)]
    if case.checkpoint is not None and case.checkpoint.to_download:
        wanted.append(("weights", Path(HF_HUB_CACHE), sum(case.checkpoint.to_download.values())))
    data = sum(task.to_download or 0 for task in case.tasks)
    if data:
        wanted.append(("data", Path(os.environ.get("LMMS_EVAL_DATASETS_CACHE") or HF_DATASETS_CACHE), data))
    disks: dict[int, list] = {}
    for one in wanted:
        disks.setdefault(existing(one[1]).stat().st_dev, []).append(one)
    for group in disks.values():
        folder = existing(group[0][1])
        needed, free = sum(size for *_, size in group), shutil.disk_usage(folder).free
        said = f"about {gib(needed)} needed, {gib(free)} free below {folder}: "
        said += ", ".join(f"{name} {gib(size)}" for name, _, size in group)
        if needed > free:
            yield failed(said, "free some room, or move things: results=… for results, HF_HOME=… for weights and data")
        else:
            yield ok(said)


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())
