"""Check of who connects: a page of another website must not read or steer the viewer.

A browser lets every website that it shows open a websocket to 127.0.0.1. viser serves all of
them, so the server refuses, in the handshake, a page that it did not serve itself. A name that
another website has pointed at this machine (DNS rebinding) is refused too.
"""

from __future__ import annotations

import contextlib
import functools
import http
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

# What a page of the viewer may load and ask: itself alone. No other page may hold it in a frame.
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "connect-src 'self' ws: data: blob:; frame-ancestors 'none'"
)
SERVE = "websockets.asyncio.server.serve"  # by which viser starts its server
_PATCH = threading.Lock()


def refusal(
    host: str | None,  # header Host of the request
    origin: str | None,  # header Origin; None: the request is not of a page, or is the page's own
    listens_on: str,  # host of the server
) -> str | None:
    """Return the reason to refuse a request, or None to answer it.

    The host must be an address, this machine's name or ``localhost``, and the page of the request
    must come from the same host and port. Programs that are no browsers send no origin.
    """
    name = _host_name(host)
    if name is None or not _is_own(name, listens_on):
        return f"host must be an address of this machine; got {host!r}: open the printed address"
    if origin is not None and urlsplit(origin).netloc.lower() != (host or "").lower():
        return f"origin must be this viewer's page; got {origin!r}: open the printed address"
    return None


@contextlib.contextmanager
def checked_origins(listens_on: str) -> Iterator[list[int]]:
    """Let a server of viser that starts in this context check every request first.

    viser has no setting for it; so the function that starts its server is replaced meanwhile.

    Yields:
        The ports of the starts that were caught; if it stays empty, the server does not check.
    """
    import websockets.asyncio.server as module

    original = module.serve
    starts: list[int] = []

    def serve(
        handler: Any, host: str, port: int, *, process_request: Callable[..., Any], **options: Any
    ) -> Any:
        starts.append(port)
        check = functools.partial(_answer, process_request, listens_on)
        return original(handler, host, port, process_request=check, **options)

    with _PATCH:
        module.serve = serve  # type: ignore[assignment, misc]
        try:
            yield starts
        finally:
            module.serve = original  # type: ignore[misc]


def _answer(answer: Callable[..., Any], listens_on: str, connection: Any, request: Any) -> Any:
    """Refuse a request, or answer it as viser does, with the policy of the page."""
    headers = request.headers
    hosts, origins = headers.get_all("Host"), headers.get_all("Origin")
    reason = refusal(", ".join(hosts), ", ".join(origins) if origins else None, listens_on)
    if reason is not None:
        return connection.respond(http.HTTPStatus.FORBIDDEN, f"{reason}\n")
    response = answer(connection, request)
    if response is not None:
        response.headers["Content-Security-Policy"] = _POLICY
    return response


def _host_name(host: str | None) -> str | None:
    """Return the name in a header Host, without the port; None if it is none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _is_own(name: str, listens_on: str) -> bool:
    """Return True for a name that no other website can have pointed here."""
    own = {"localhost", listens_on.lower()}
    if listens_on not in ("127.0.0.1", "::1", "localhost"):
        own.add(socket.gethostname().lower())
    if name in own:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
