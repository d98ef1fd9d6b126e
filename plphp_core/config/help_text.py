"""What a command's --help prints: its keys with their comments, as configs/ has them."""

from __future__ import annotations

import re
from pathlib import Path

from plphp_core.config.hydra_app import options
from plphp_core.config.locations import CONFIGS

GROUPS = ("table", "model", "method", "tasks", "profile", "launcher")


def help_text(command: str, what: str) -> str:
    """The options of each group and the sections of configs/config.yaml whose first line names the command."""
    usage = f"usage: plphp {command} [key=value …]\n\n{what[0].upper()}{what[1:]}.\n"
    if command == "bench":
        return "\n".join([usage, *(_text(CONFIGS / file) for file in ("bench.yaml", "bench/cpu.yaml"))])
    groups = "\n".join(f"{group}={' | '.join(options(group))}" for group in GROUPS)
    sections = [one for one in _text(CONFIGS / "config.yaml").split("\n\n") if command in _commands(one)]
    return "\n\n".join([usage.strip(), groups, *sections])


def _commands(section: str) -> list[str]:
    """`# [run, attend] …`: the commands that a section is for."""
    named = re.match(r"# \[([\w, -]+)\]", section)
    return named[1].split(", ") if named else []


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
