"""`plphp demo`: the server behind the page."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plphp_core.config.checked_values import whole
from plphp_core.config.hydra_app import composed
from plphp_core.records.errors import UserError

HOST = "127.0.0.1"  # this machine only
# Gradio reads these when it is imported, Hugging Face's libraries too.
QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
FONTS = {  # the visitor's own: none is fetched
    "font": ("ui-sans-serif", "system-ui", "sans-serif"),
    "font_mono": ("ui-monospace", "Consolas", "monospace"),
}


def main(arguments: list[str]) -> int:
    """Serve the demo until Ctrl-C or a termination signal. Returns 0.

    Raises:
        UserError, OSError: as `serving`.
    """
    with serving(arguments) as url:
        print(f"the demo is at {url} (Ctrl-C ends it)", flush=True)
        told = threading.Event()
        for ending in (signal.SIGINT, signal.SIGTERM):
            signal.signal(ending, lambda *_: told.set())
        told.wait()
    return 0


@contextmanager
def serving(overrides: list[str]) -> Iterator[str]:
    """The address of the running demo. Uploads lie in a folder that goes with it.

    Args:
        overrides: of the configuration.

    Raises:
        UserError: no Gradio, a port that cannot be used, or a model or value that cannot be.
        OSError: the port was taken meanwhile.
    """
    port = composed(overrides).demo.port
    check_port(port)
    os.environ.update(QUIET)
    for name in ("NO_PROXY", "no_proxy"):  # Gradio asks its own server whether it is there
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), HOST]))
    try:
        import gradio
    except ImportError as error:
        raise UserError("the demo needs the package gradio: `pip install 'plphp[demo]'`, or `make setup`") from error
    from plphp_core.demo.demo_session import DemoSession
    from plphp_core.demo.demo_settings import DemoSettings, draw_examples
    from plphp_core.demo.gradio_app import DemoPage

    settings = DemoSettings(overrides)
    print(f"loading {settings.model.name} …", flush=True)
    session = DemoSession(settings)
    with tempfile.TemporaryDirectory(prefix="plphp-demo-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        blocks = DemoPage(session, draw_examples(Path(folder) / "examples"), settings.toy).blocks
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
                theme=gradio.themes.Default(primary_hue="blue", neutral_hue="slate", **FONTS),
            )
            yield url
        finally:
            blocks.close(verbose=False)
            os.environ.pop("GRADIO_TEMP_DIR", None)


def check_port(port: object) -> None:
    """Before a model is loaded for it. Raises UserError if nobody can listen there."""
    if whole("demo.port", port, 1) > 65535:
        raise UserError(f"demo.port must be at most 65535, got {port}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UserError(
                f"port {port} of {HOST} cannot be used ({error.strerror}); another demo may be running: end it, or "
                "choose another, as in demo.port=7861"
            ) from error
