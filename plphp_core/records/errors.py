"""Errors whose message is all the user needs: the value given, the values allowed, what to do. No traceback."""

from collections.abc import Iterable, Sequence


class UserError(ValueError):
    """A request that cannot be served as it stands; the command line prints the message and exits with code 2."""


class RunError(RuntimeError):
    """The run cannot go on (full disk, every sample failing); what was answered so far is safe. Exit code 1."""


class NotWritten(RunError, OSError):
    """A file could not be written."""


class ReportError(ValueError):
    """Something the user can put right: a missing folder, a damaged file, an ambiguous choice."""


def unknown(what: str, given: object, allowed: Iterable[object]) -> UserError:
    """The one way to say that a name is not known."""
    return UserError(f"unknown {what} {given!r}; allowed: {', '.join(sorted(map(str, allowed))) or 'none'}")


def shortlist(names: Sequence[str], most: int, between: str = ", ") -> str:
    """The first `most` names, and how many more there are."""
    return between.join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
