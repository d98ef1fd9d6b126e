"""The command line of `scripts/demo.py`."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from plphp_core.records.errors import UserError, unknown

HOST = "127.0.0.1"  # this machine only
LARGEST_UPLOAD = "64mb"
LOADING = ("device", "dtype", "attn_implementation")
DEFAULTS = {"profile": "toy", "model": "llava_onevision", "port": "7860"}
KEYS = (*DEFAULTS, "checkpoint", *LOADING)
USAGE = f"""usage: python scripts/demo.py [option=value …]

The methods side by side in a browser, on this machine only. Options, with what they are by default:
  profile=toy              toy or paper (the released checkpoints)
  model=llava_onevision    the model to start with; the page offers all of the profile
  checkpoint=…             hub name or folder of that model's weights, if not the configured ones
  port=7860                of http://{HOST}
  device=… dtype=… attn_implementation=…    the profile's
"""
# Gradio reads these when it is imported, Hugging Face's libraries too.
QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}


def main(root: Path, arguments: list[str], wait: Callable[[], None] | None = None) -> int:
    """Serve the demo until it is interrupted.

    Args:
        wait: returns when the server is to end; by default at Ctrl-C or a termination signal.

    Returns:
        0; 1 where the page cannot be served, 2 for options that cannot be, said in one sentence.
    """
    if "--help" in arguments or "-h" in arguments:
        print(USAGE, end="")
        return 0
    try:
        options = parse(arguments)
        check_port(int(options["port"]))
        os.environ.update(QUIET)
        for name in ("NO_PROXY", "no_proxy"):  # Gradio asks its own server whether it is there
            os.environ[name] = ",".join(filter(None, [os.environ.get(name), HOST]))
        with serving(root, options) as url:
            print(f"the demo is at {url} (Ctrl-C ends it)", flush=True)
            (wait or _until_told)()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: the page cannot be served: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def parse(arguments: list[str]) -> dict[str, str]:
    """`name=value` arguments, with defaults for those left out that have one.

    Raises:
        UserError: not of this form, an unknown name, or a port that is none.
    """
    options = dict(DEFAULTS)
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name not in KEYS or not equals:
            raise unknown("option", argument, [f"{key}=…" for key in KEYS])
        if not value:
            raise UserError(f"{name}= has no value; leave it out or give one, as in {name}={DEFAULTS.get(name, '…')}")
        options[name] = value
    port = options["port"]
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise UserError(f"port = {port}, but must be a whole number from 1 to 65535, as in port=7860")
    return options


def check_port(port: int) -> None:
    """Raises UserError if nobody can listen there; before a model is loaded for it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UserError(
                f"port {port} of {HOST} cannot be used ({error.strerror}); another demo may be running: "
                f"end it, or choose another port, as in port={port + 1 if port < 65535 else 7860}"
            ) from error


@contextmanager
def serving(root: Path, options: dict[str, str]):
    """The address of the running demo. Uploads lie in a folder that goes with it.

    Raises:
        UserError: no Gradio, or a model or value that cannot be.
        OSError: the port was taken meanwhile.
    """
    from plphp_core.demo.catalogue import Catalogue
    from plphp_core.evaluation.cell_spec import shown

    loading = {key: options[key] for key in LOADING if key in options}
    catalogue = Catalogue(root, options["profile"], options["model"], loading, options.get("checkpoint"))
    try:
        from plphp_core.demo import gradio_app, theme
    except ImportError as error:
        if (error.name or "").split(".")[0] != "gradio":
            raise
        raise UserError("the demo needs the package gradio: `pip install 'plphp[demo]'`, or `make setup`") from error
    from plphp_core.demo.examples import draw_examples
    from plphp_core.demo.session import Session

    session = Session(catalogue)
    print(f"loading {shown(catalogue.settings(catalogue.first).checkpoint, root)} …", flush=True)
    session.shape(catalogue.first)
    with tempfile.TemporaryDirectory(prefix="plphp-demo-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        blocks = gradio_app.build(session, draw_examples(Path(folder) / "examples"))
        blocks.queue(max_size=32, api_open=False)
        try:
            _, url, _ = blocks.launch(
                server_name=HOST,
                server_port=int(options["port"]),
                share=False,
                quiet=True,
                prevent_thread_lock=True,
                show_error=False,
                ssr_mode=False,
                enable_monitoring=False,
                mcp_server=False,
                pwa=False,
                run_history=False,
                footer_links=[],
                max_file_size=LARGEST_UPLOAD,
                state_session_capacity=64,
                allowed_paths=[],
                theme=theme.theme(),
                css_paths=[theme.CSS],
            )
            yield url
        finally:
            blocks.close(verbose=False)
            os.environ.pop("GRADIO_TEMP_DIR", None)


def _until_told() -> None:
    told = threading.Event()
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, lambda *_: told.set())
    told.wait()
