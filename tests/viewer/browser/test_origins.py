"""Who may connect to the viewer: its own page and programs, and no page of another website."""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.viewer.browser.chromium import Chromium

viser = pytest.importorskip("viser")

from bevstack.viewer.browser import server as server_module  # noqa: E402
from bevstack.viewer.browser.origins import refusal  # noqa: E402
from bevstack.viewer.browser.server import start_server, stop_server  # noqa: E402

CONNECT = """([address, version]) => new Promise(done => {
  const socket = new WebSocket(address, [`viser-v${version}`]);
  socket.onmessage = () => done("a message");
  socket.onclose = () => done("refused");
})"""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = start_server("127.0.0.1", 0)
    yield server.get_port()
    stop_server(server)


@pytest.mark.parametrize(
    ("host", "origin", "listens_on", "answered"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080", "127.0.0.1", True),
        ("127.0.0.1:8080", None, "127.0.0.1", True),  # a program
        ("localhost:9000", "http://localhost:9000", "127.0.0.1", True),  # a tunnel of ssh
        ("[::1]:8080", "http://[::1]:8080", "::1", True),
        ("192.0.2.7:8080", "http://192.0.2.7:8080", "0.0.0.0", True),
        ("car.lan:8080", "http://CAR.lan:8080", "car.lan", True),
        ("127.0.0.1:8080", "https://website.example", "127.0.0.1", False),
        ("127.0.0.1:8080", "http://127.0.0.1:9999", "127.0.0.1", False),  # another program's page
        ("127.0.0.1:8080", "null", "127.0.0.1", False),  # a file, or a frame in a sandbox
        ("website.example:8080", "http://website.example:8080", "127.0.0.1", False),  # rebinding
        ("website.example:8080", None, "0.0.0.0", False),
        ("127.0.0.1:8080, a", "http://127.0.0.1:8080", "127.0.0.1", False),  # two headers
        ("", None, "127.0.0.1", False),
        ("[", None, "127.0.0.1", False),
    ],
)
def test_only_the_own_page_and_programs_are_answered(
    host: str, origin: str | None, listens_on: str, answered: bool
) -> None:
    assert (refusal(host, origin, listens_on) is None) == answered


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, None),
        ({"Origin": "http://127.0.0.1:{port}"}, None),
        ({"Origin": "https://website.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
    ],
)
def test_the_handshake_of_a_foreign_page_is_refused(
    port: int, headers: dict[str, str], status: int | None
) -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    filled = {name: value.format(port=port) for name, value in headers.items()}
    protocol: Any = f"viser-v{viser.__version__}"
    opened = functools.partial(
        connect, f"ws://127.0.0.1:{port}", subprotocols=[protocol], additional_headers=filled
    )
    if status is None:
        with opened() as socket:
            assert socket.recv(timeout=30)
    else:
        with pytest.raises(InvalidStatus) as error, opened():
            pass
        assert error.value.response.status_code == status
        assert b"origin must be this viewer's page" in error.value.response.body


def test_a_viser_that_starts_its_server_otherwise_is_refused_and_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopped: list[Any] = []
    monkeypatch.setattr(server_module, "checked_origins", lambda host: contextlib.nullcontext([]))
    monkeypatch.setattr(
        server_module, "stop_server", lambda server: (stopped.append(server), stop_server(server))
    )
    with pytest.raises(RuntimeError, match="viser must start its server by websockets"):
        start_server("127.0.0.1", 0)
    assert len(stopped) == 1


def test_a_page_of_another_website_reads_nothing(
    port: int, browser: Chromium, tmp_path: Path
) -> None:
    (tmp_path / "index.html").write_text("<html><body>another website</body></html>")
    handler = functools.partial(Quiet, directory=str(tmp_path))
    foreign = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=foreign.serve_forever, daemon=True).start()
    given = [f"ws://127.0.0.1:{port}/", viser.__version__]
    try:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{foreign.server_address[1]}/")
        assert page.evaluate(CONNECT, given) == "refused"
        page.evaluate(f"document.body.innerHTML = '<iframe src=\"http://127.0.0.1:{port}\">'")
        page.wait_for_timeout(500)
        assert "chrome-error" in page.frames[1].evaluate("location.href")
        page.goto(f"http://127.0.0.1:{port}/")
        assert page.evaluate(CONNECT, given) == "a message"
        page.context.close()
    finally:
        foreign.shutdown()
        foreign.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server of files that prints nothing."""

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""
