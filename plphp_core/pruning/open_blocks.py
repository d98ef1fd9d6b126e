"""Which `prune` blocks are open on a model, and which of them acts in a thread or asyncio task."""

import threading
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from torch import nn

from plphp_core.pruning.generate_guard import guard_model, unguard_model

if TYPE_CHECKING:
    from plphp_core.pruning.session import Session

_SESSIONS: "weakref.WeakKeyDictionary[nn.Module, list[Session]]" = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()
# Of this thread or asyncio task; weak, since a context may outlive a block that was closed in another one.
_OWN: "ContextVar[tuple[weakref.ref[Session], ...]]" = ContextVar("plphp_sessions", default=())


def open_block(session: "Session", generating: Callable[..., Any]) -> None:
    """Install the hooks of a session; `generating` goes around calls of `generate`, see `guard_model`."""
    with _LOCK:
        sessions = _SESSIONS.setdefault(session.model, [])
        sessions.append(session)
        if len(sessions) == 1:
            guard_model(session.model, generating)
        session.install()
    _OWN.set((*_OWN.get(), weakref.ref(session)))


def close_block(session: "Session") -> None:
    _OWN.set(tuple(one for one in _OWN.get() if one() not in (None, session)))
    with _LOCK:
        session.remove()
        sessions = _SESSIONS[session.model]
        sessions.remove(session)
        if not sessions:
            unguard_model(session.model)
            del _SESSIONS[session.model]


def acting(model: nn.Module) -> "Session | None":
    """The session that acts in this thread or task: its own latest one, or, if it has none, the latest of all."""
    sessions = list(_SESSIONS.get(model, ()))
    own = [one() for one in _OWN.get() if one() in sessions]  # a task may outlive the block it was made in
    return (own or sessions or [None])[-1]
