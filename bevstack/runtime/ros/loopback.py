"""Sockets that receive from this machine alone.

Cyclone DDS binds the sockets that it receives on to all addresses, whichever interface it is given:
another machine could send to them. Linux binds a socket to an interface afterwards.
"""

from __future__ import annotations

import contextlib
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path

_FOLDER = Path("/proc/self/fd")
_INTERFACE = b"lo"


@contextlib.contextmanager
def received_on_loopback() -> Iterator[None]:
    """Limit the UDP sockets that are opened meanwhile to the loopback interface.

    Warns:
        UserWarning: the system does not allow it.
    """
    before = _sockets()
    yield
    try:
        for descriptor, _ in sorted(_sockets() - before):
            _bind(descriptor)
    except (OSError, AttributeError) as error:
        warnings.warn(
            f"topics must be received on the loopback interface alone; got {error}: any machine "
            "that reaches this one can send to them, if no firewall stops it",
            stacklevel=3,
        )


def _sockets() -> set[tuple[int, str]]:
    """Return descriptors and names of the open sockets of this process; none without Linux."""
    found = set()
    for link in _FOLDER.iterdir() if _FOLDER.is_dir() else ():
        with contextlib.suppress(OSError):  # closed meanwhile
            name = os.readlink(link)
            if name.startswith("socket:"):
                found.add((int(link.name), name))
    return found


def _bind(descriptor: int) -> None:
    with socket.socket(fileno=os.dup(descriptor)) as own:
        if own.type == socket.SOCK_DGRAM and own.family in (socket.AF_INET, socket.AF_INET6):
            own.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, _INTERFACE)
