"""Whether the hub answers: found out once, in seconds, so that no later check waits for it in vain."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from plphp_core.preflight.case import Case
from plphp_core.preflight.check import Finding, check, ok, reason, warning

PATIENCE = (3.0, 6.0)  # seconds to connect, at the first try and the second
_unreachable: dict[str, str] = {}  # endpoint → why, while a preflight has switched the libraries offline


@check("Network")
def network(case: Case) -> Iterator[Finding]:
    """Any answer counts, an error's too, and so does a host that takes the connection and is slow to answer."""
    from huggingface_hub import constants

    if asked_offline():
        yield ok("not used (HF_HUB_OFFLINE=1 or an offline profile): only what is on this machine counts")
        return
    endpoint = constants.ENDPOINT
    if endpoint not in _unreachable:
        for patience in PATIENCE:
            if not (why := _attempt(endpoint, patience)):
                yield ok(f"{endpoint} answers")
                return
        _unreachable[endpoint] = why
    _go_offline()
    yield warning(
        f"{endpoint} cannot be reached: {_unreachable[endpoint]}; the checks below look at this machine alone",
        "see the network, HTTPS_PROXY and HF_ENDPOINT; without network on purpose, HF_HUB_OFFLINE=1 keeps a run from "
        "waiting for it",
    )


def asked_offline() -> bool:
    """Whether the user, not this check, keeps the libraries from the network."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE) and not _unreachable


@contextmanager
def online_again() -> Iterator[None]:
    """At the end of the block the libraries are as they were before."""
    import datasets.config as data
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, data.HF_HUB_OFFLINE, data.HF_DATASETS_OFFLINE
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, data.HF_HUB_OFFLINE, data.HF_DATASETS_OFFLINE = before
        _unreachable.clear()


def _go_offline() -> None:
    import datasets.config as data
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = data.HF_HUB_OFFLINE = data.HF_DATASETS_OFFLINE = True


def _attempt(endpoint: str, patience: float) -> str:
    """Why nothing answers within `patience` seconds for the connection; empty if something does.

    In a thread of its own: looking up a name has no time limit. With the libraries' own client, which knows proxies and
    certificates.
    """
    found: list[str] = []

    def ask() -> None:
        from huggingface_hub import get_session

        try:
            get_session().head(endpoint, timeout=patience)
        except Exception as error:  # the client's own classes, of which two releases of it have different ones
            slow = type(error).__name__ in ("ReadTimeout", "WriteTimeout", "TooManyRedirects")
            found.append("" if slow else f"{type(error).__name__}: {reason(error)}")
        else:
            found.append("")

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(2 * patience)  # connecting and its encryption
    return found[0] if found else f"no connection within {2 * patience:.0f} s"
