"""The command `plphp` and the scripts that are doors to it: what goes wrong before a command can speak for itself is
one line, from the first import on.

Only the standard library, in words that any Python 3 reads: it is what tells that the environment is not there.
"""

import os
import re
import signal
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

COMMANDS = {  # → the module whose `main(arguments)` carries it out, and what it does
    "run": ("plphp_core.cli.run_command", "evaluate methods on benchmarks: a table's, a sweep's, or one"),
    "attend": ("plphp_core.evaluation.attention.attend_app", "where models look: readings for Figures 1, 2 and 3"),
    "report": ("plphp_core.cli.report_command", "tables, figures, verdicts and the page from what has been run"),
    "leaderboard": ("plphp_core.cli.leaderboard_command", "results folders, also other people's, as one page"),
    "reproduce": ("plphp_core.cli.reproduction_command", "run or read what a table or figure needs, then report it"),
    "preflight": ("plphp_core.preflight.preflight_app", "before hours of GPU time: would a run work?"),
    "bench": ("plphp_core.bench.bench_app", "decoding beside its roofline"),
    "demo": ("plphp_core.demo.server", "the methods side by side in a browser"),
    "choose-vtw-k": ("plphp_core.cli.vtw_depth_command", "VTW's K by its own rule, which Table 1 quotes"),
}
GROUPS = ("table", "model", "method", "tasks", "profile", "launcher")
OWN = ("plphp_core", "baselines", "tasks", "scripts")
OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 128 + signal.SIGINT
OLDEST = (3, 11)


def main():
    """`plphp COMMAND key=value …`. Returns the exit code."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in COMMANDS:
        return script(name, arguments)
    lines = [f"  {command:<14}{what}" for command, (_, what) in COMMANDS.items()]
    usage = "\n".join(["usage: plphp COMMAND [key=value …]; plphp COMMAND --help shows its keys", "", *lines])
    if name in ("-h", "--help"):
        print(usage)
        return OK
    print(f"error: unknown command {name!r}; allowed: {', '.join(COMMANDS)}", file=sys.stderr)
    return USAGE


def script(name, arguments=None):
    """One command, of this process's arguments where none are given. Returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments

    def load():
        force_offline(arguments, "toy" if name == "demo" else None)
        return partial(command, name, arguments, import_module(COMMANDS[name][0]).main)

    return start(load)


def command(name, arguments, main=None):
    """Carry out a command, everything imported.

    Returns:
        exit code: 0 done; 1 something failed; 2 it cannot be served as it stands, said in a sentence; 130 interrupted.
        Commands have further ones of their own.
    """
    from omegaconf.errors import OmegaConfBaseException

    from plphp_core.records.errors import UserError

    if {"-h", "--help"} & set(arguments):
        print(help_text(name))
        return OK
    if name in ("report", "reproduce"):  # `plphp report table1` is short for table=table1
        arguments = [one if "=" in one or one.startswith("-") else f"table={one}" for one in arguments]
    try:
        if "profile=toy" in arguments and name not in ("report", "leaderboard", "bench", "demo"):
            draw_toy_data()
        return (main or import_module(COMMANDS[name][0]).main)(arguments)
    except (UserError, OmegaConfBaseException) as error:
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
        return USAGE
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except SystemExit as stop:  # of Hydra's own options, such as --cfg
        return stop.code if isinstance(stop.code, int) else USAGE if stop.code else OK


def help_text(command):
    """A command's keys with their comments: the options of each group, and the sections of configs/config.yaml whose
    first line names it, `# [run, attend] …`."""
    from plphp_core.config.hydra_app import options
    from plphp_core.config.locations import CONFIGS

    what = COMMANDS[command][1]
    usage = f"usage: plphp {command} [key=value …]\n\n{what[0].upper()}{what[1:]}."
    files = ("bench.yaml", "bench/cpu.yaml") if command == "bench" else ("config.yaml",)
    texts = [(CONFIGS / file).read_text(encoding="utf-8") for file in files]
    if command == "bench":
        return "\n".join([f"{usage}\n", *texts])
    groups = "\n".join(f"{group}={' | '.join(options(group))}" for group in GROUPS)
    named = ((re.match(r"# \[([\w, -]+)\]", section), section) for section in texts[0].split("\n\n"))
    return "\n\n".join([usage, groups, *(text for found, text in named if found and command in found[1].split(", "))])


def draw_toy_data():
    """Draw the toy world's data sets where they are not yet; seconds. Raises OSError where they cannot be written."""
    from plphp_core.config.locations import make_importable

    make_importable()
    from tasks.toy.generate import DEFAULT_OUT, MARKER, generate

    if not (DEFAULT_OUT / MARKER).exists():
        print(f"drawing the toy data sets in {DEFAULT_OUT}", file=sys.stderr)
        generate(DEFAULT_OUT)


def force_offline(arguments, default=None):
    """Set the Hugging Face libraries' offline variables if every profile that `arguments` name is an offline one.

    The libraries read them when they are imported, so this comes before all other imports.
    """
    from omegaconf import OmegaConf

    from plphp_core.config.locations import config_file

    chosen = [one.partition("=")[2] for one in arguments if one.startswith("profile=")] or [default or ""]
    files = [config_file("profile", name) for names in chosen for name in names.split(",")]
    if all(file and OmegaConf.load(file).get("offline") for file in files):
        os.environ.update(dict.fromkeys(OFFLINE, "1"))


def start(load):
    """Run a program.

    Args:
        load: imports what the program needs and returns it, a function without arguments that gives the exit code.
            Nothing has begun meanwhile: Ctrl-C ends it at once, wherever in a library it arrives.

    Returns:
        the program's exit code; 2 outside of the environment; 130 at Ctrl-C.
    """
    if sys.version_info < OLDEST:
        return _outside(f"Python {sys.version_info[0]}.{sys.version_info[1]} is too old")
    # Threads that wait for each other in a loop take the time of cores that other programs, or torchrun's other
    # processes, need: beside one busy program a CPU run took ten times as long. Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    before = signal.signal(signal.SIGINT, _leave)
    try:
        program = load()
    except ImportError as error:
        if (error.name or "").split(".")[0] in OWN:
            raise
        return _outside(str(error))
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        return program()
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
    name = Path(sys.argv[0]).name
    again = (
        f"`make setup` builds .venv with all that is needed, then: .venv/bin/python scripts/{name} …"
        if name.endswith(".py")
        else "`pip install 'plphp[eval]'` brings all that is needed"
    )
    print(f"error: {reason}, in {sys.executable}; {again}", file=sys.stderr)
    return USAGE
