"""The command line of `scripts/demo.py`, and the server behind the page."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plphp_core.records.errors import UserError

HOST, PORT = "127.0.0.1", "7860"  # this machine only
USAGE = f"""usage: python scripts/demo.py [option=value …]

The methods side by side in a browser, on this machine only. Options, with what they are by default:
  port=7860                of http://{HOST}
  profile=toy              toy or paper (the released checkpoints)
  model=llava_onevision    the model to start with; the page offers all of the profile
  model.checkpoint=… device=… dtype=… attn_implementation=…    as in scripts/run.py
"""
# Gradio reads these when it is imported, Hugging Face's libraries too.
QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}


def main(root: Path, arguments: list[str]) -> int:
    """Serve the demo until Ctrl-C or a termination signal.

    Returns:
        0; 1 where the page cannot be served, 2 for options that cannot be, said in one sentence.
    """
    if "--help" in arguments or "-h" in arguments:
        print(USAGE, end="")
        return 0
    try:
        with serving(root, arguments) as url:
            print(f"the demo is at {url} (Ctrl-C ends it)", flush=True)
            _until_told()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: the page cannot be served: {error}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def serving(root: Path, overrides: list[str]) -> Iterator[str]:
    """The address of the running demo. Uploads lie in a folder that goes with it.

    Args:
        overrides: of the configuration, and `port`.

    Raises:
        UserError: no Gradio, a port that cannot be used, or a model or value that cannot be.
        OSError: the port was taken meanwhile.
    """
    ports = [one.removeprefix("port=") for one in overrides if one.startswith("port=")]
    port = check_port(ports[-1] if ports else PORT)
    os.environ.update(QUIET)
    for name in ("NO_PROXY", "no_proxy"):  # Gradio asks its own server whether it is there
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), HOST]))
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise UserError("the demo needs the package gradio: `pip install 'plphp[demo]'`, or `make setup`") from error
    from plphp_core.demo import theme
    from plphp_core.demo.catalogue import Catalogue, draw_examples
    from plphp_core.demo.gradio_app import DemoPage
    from plphp_core.demo.session import DemoSession

    catalogue = Catalogue(root, [one for one in overrides if not one.startswith("port=")])
    print(f"loading {catalogue.title(catalogue.first)} …", flush=True)
    session = DemoSession(catalogue)
    session.shape(catalogue.first)
    with tempfile.TemporaryDirectory(prefix="plphp-demo-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        blocks = DemoPage(session, draw_examples(Path(folder) / "examples")).blocks
        blocks.queue(max_size=32, api_open=False)
        try:
            _, url, _ = blocks.launch(
                server_name=HOST,
                server_port=port,
                share=False,
                ssr_mode=False,
                enable_monitoring=False,
                footer_links=[],
                quiet=True,
                prevent_thread_lock=True,
                max_file_size="64mb",
                state_session_capacity=64,
                theme=theme.theme(),
                css=theme.CSS,
            )
            yield url
        finally:
            blocks.close(verbose=False)
            os.environ.pop("GRADIO_TEMP_DIR", None)


def check_port(port: str) -> int:
    """The port as a number; before a model is loaded for it. Raises UserError if nobody can listen there."""
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise UserError(f"port = {port}, but must be a whole number from 1 to 65535, as in port=7860")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, int(port)))
        except OSError as error:
            raise UserError(
                f"port {port} of {HOST} cannot be used ({error.strerror}); another demo may be running: end it, or "
                "choose another, as in port=7861"
            ) from error
    return int(port)


def _until_told() -> None:
    told = threading.Event()
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, lambda *_: told.set())
    told.wait()
