"""Where configuration and task files lie: the user's own in the working directory, then those that are packaged.

Nothing but the standard library is imported here: the commands read it before any library may ask a network.
"""

from __future__ import annotations

import sys
from pathlib import Path

PACKAGED = (
    Path(__file__).resolve().parents[2]
)  # the checkout, or where pip installed the packages: holds configs/, tasks/
CONFIGS = PACKAGED / "configs"


def config_folders() -> list[Path]:
    """`configs/` of the working directory, if there is one, and the packaged one, in this order."""
    own = Path.cwd() / "configs"
    return [own, CONFIGS] if own.is_dir() and own.resolve() != CONFIGS else [CONFIGS]


def config_file(group: str, name: str) -> Path | None:
    """The file of an option of a group, None if it has none."""
    return next((path for folder in config_folders() if (path := folder / group / f"{name}.yaml").is_file()), None)


def option_files(group: str) -> list[str]:
    """The options of a group that have a file, sorted."""
    return sorted({path.stem for folder in config_folders() for path in (folder / group).glob("*.yaml")})


def make_importable() -> None:
    """See that `tasks` can be imported, in a checkout that is not installed too."""
    if str(PACKAGED) not in sys.path:
        sys.path.append(str(PACKAGED))


def measured_apart(results: Path, own: int | None, usual: int) -> Path:
    """Where a table's cells lie: in the profile's `results`, or in a folder there of their own.

    Answers do not tell batch sizes apart, times do: a table with a batch size of its own must not meet answers that
    were given in other batches.

    Args:
        own: the table's batch size, None without one; usual: the profile's.
    """
    return results if own in (None, usual) else results / f"batch{own}"
