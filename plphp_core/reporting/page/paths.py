"""Paths of the machine, taken out of what a page says: a report is passed on, the machine is not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path


def cleaner(root: Path, results: Path) -> Callable[[object], object]:
    """A function that rewrites plain data: paths below `root` and `results` become relative, the home folder `~`."""
    known: dict[str, str] = {}
    for path, short in ((Path.home(), "~"), (results.absolute(), "results"), (root.absolute(), ".")):
        for name in {str(path), str(path.resolve())}:
            if len(name) > 1:  # a home of "/" hides nothing
                known[name] = short
    names = sorted(known, key=len, reverse=True)
    # what follows must not go on with the folder's own name; "./" in front of a relative path says nothing
    pattern = re.compile("|".join(rf"{re.escape(name)}(?![\w-])" for name in names))

    def clean(value):
        if isinstance(value, str):
            return pattern.sub(lambda match: known[match[0]], value).replace(" ./", " ").removeprefix("./")
        if isinstance(value, dict):
            return {clean(key): clean(item) for key, item in value.items()}
        return [clean(item) for item in value] if isinstance(value, (list, tuple)) else value

    return clean
