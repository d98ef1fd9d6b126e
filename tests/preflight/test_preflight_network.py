"""An unreachable hub is found out once and fast; one that is slow, or says no, is not taken for one."""

import socket
import threading
import time

import datasets.config
import pytest
from huggingface_hub import close_session, constants

from plphp_core.preflight import network as module
from plphp_core.preflight.case import Case
from plphp_core.preflight.check import Status, run_checks
from plphp_core.preflight.checkpoint import checkpoint_files
from plphp_core.preflight.network import asked_offline, network, online_again
from tests.configured import configured


@pytest.fixture
def hub(monkeypatch):
    """Sets the endpoint; the libraries are online, without a proxy."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", False)
    monkeypatch.setattr(module, "PATIENCE", (0.5, 0.5))
    close_session()
    yield lambda url: monkeypatch.setattr(constants, "ENDPOINT", url)
    close_session()


@pytest.fixture
def server():
    """A port, and what to answer there to every connection, as bytes; None: never anything."""
    listening = socket.create_server(("127.0.0.1", 0))
    answer: dict[str, bytes | None] = {"bytes": None}
    held = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            held.append(connection)
            if answer["bytes"] is not None:
                connection.recv(4096)
                connection.sendall(answer["bytes"])

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}", answer
    listening.close()


def look(*checks):
    case = Case(configured("profile=toy", "tasks=[sd]", "model.checkpoint=somebody/not-here"))
    began = time.monotonic()
    results = run_checks(checks or [network], case)
    return results, time.monotonic() - began


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 503 Busy\r\n\r\n", None])
def test_a_host_that_takes_the_connection_is_there_however_it_answers(answer, hub, server):
    url, said = server
    said["bytes"] = answer
    hub(url)
    (result,), _ = look()
    assert result.status is Status.OK and url in result.findings[0].found and not constants.HF_HUB_OFFLINE


def test_an_unreachable_host_is_asked_once_and_later_checks_do_not_wait(hub, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        hub(f"http://127.0.0.1:{free.getsockname()[1]}")
    asked = []
    attempt = module._attempt
    monkeypatch.setattr(module, "_attempt", lambda *given: asked.append(given) or attempt(*given))
    with online_again():
        (first, files), seconds = look(network, checkpoint_files)
        (again,), _ = look()
        assert constants.HF_HUB_OFFLINE and datasets.config.HF_HUB_OFFLINE and not asked_offline()
    assert len(asked) == 2 and seconds < 5  # one retry, and nothing for the second model
    assert first.status is again.status is Status.WARNING and "cannot be reached: Connect" in first.findings[0].found
    assert files.status is Status.FAILED and "not cached (offline)" in files.findings[0].found
    assert "without HF_HUB_OFFLINE" not in files.findings[0].remedy  # nobody has set it
    assert not constants.HF_HUB_OFFLINE and not datasets.config.HF_HUB_OFFLINE


def test_a_name_that_is_looked_up_for_ever_costs_seconds(hub, monkeypatch):
    hub("http://hub.invalid")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **more: time.sleep(30))
    with online_again():
        (result,), seconds = look()
    assert result.status is Status.WARNING and "no connection within 1 s" in result.findings[0].found and seconds < 5


def test_a_dead_proxy_is_as_good_as_none(hub, server, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{free.getsockname()[1]}")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    hub("http://hub.invalid")
    close_session()
    with online_again():
        (result,), _ = look()
    assert result.status is Status.WARNING


def test_offline_on_purpose_nothing_is_asked(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(module, "_attempt", None)
    (result,), _ = look()
    assert result.status is Status.OK and "not used" in result.findings[0].found
