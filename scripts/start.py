"""How every script begins: what goes wrong before it can speak for itself is one line, from the first import on.

Only the standard library, in words that any Python 3 reads: it is what tells that the environment is not there.
"""

import os
import signal
import sys
from pathlib import Path

OWN = ("plphp_core", "baselines", "tasks", "scripts")
USAGE, INTERRUPTED = 2, 128 + signal.SIGINT
OLDEST = (3, 11)


def start(load):
    """Run a script.

    Args:
        load: imports what the script needs and returns its command, a function without arguments that gives the exit
            code. Nothing has begun meanwhile: Ctrl-C ends it at once, wherever in a library it arrives.

    Returns:
        the command's exit code; 2 outside of the environment; 130 at Ctrl-C.
    """
    if sys.version_info < OLDEST:
        return _outside(f"Python {sys.version_info[0]}.{sys.version_info[1]} is too old")
    # Threads that wait for each other in a loop take the time of cores that other programs, or torchrun's other
    # processes, need: beside one busy program a CPU run took ten times as long. Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    before = signal.signal(signal.SIGINT, _leave)
    try:
        command = load()
    except ImportError as error:
        if (error.name or "").split(".")[0] in OWN:
            raise
        return _outside(str(error))
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        return command()
    except ModuleNotFoundError as error:  # some libraries are imported when they are needed
        if (error.name or "").split(".")[0] in OWN:
            raise
        return _outside(str(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _leave(number, frame):
    print("interrupted", file=sys.stderr, flush=True)
    os._exit(INTERRUPTED)  # an exception would be taken for a failed import by what is being imported


def _outside(reason):
    """Say what is missing and how to get it."""
    again = (
        f"`make setup` builds .venv with all that is needed, then: .venv/bin/python scripts/{Path(sys.argv[0]).name} …"
    )
    print(f"error: {reason}, in {sys.executable}; {again}", file=sys.stderr)
    return USAGE
