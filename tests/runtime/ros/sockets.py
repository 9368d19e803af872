"""Sockets of this process that receive, from Linux's tables."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
from pathlib import Path
from typing import NamedTuple

_TABLES = ("tcp", "tcp6", "udp", "udp6")
_LISTEN = "0A"  # state of a TCP socket
_UNCONNECTED = "07"  # state of a UDP socket that receives from anywhere


class Receiver(NamedTuple):
    """Address and interface that a socket receives on."""

    address: str
    interface: str  # "": any

    @property
    def is_local(self) -> bool:
        """Return True if no other machine can send to it."""
        return self.interface == "lo" or ipaddress.ip_address(self.address).is_loopback


def receivers() -> list[Receiver]:
    """Return the listening TCP sockets and the UDP sockets of this process."""
    own = {}
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(link))
            if found:
                own[found[1]] = int(link.name)
    addresses = []
    for name in _TABLES:
        for line in Path(f"/proc/self/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            state, inode = fields[3], fields[9]
            if inode in own and state == (_LISTEN if name.startswith("tcp") else _UNCONNECTED):
                address = _address(fields[1].partition(":")[0])
                addresses.append(Receiver(address, _interface(own[inode])))
    return addresses


def _interface(descriptor: int) -> str:
    with socket.socket(fileno=os.dup(descriptor)) as own:
        name = own.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
    return name.rstrip(b"\0").decode()


def _address(digits: str) -> str:
    """Return an address of words in the order of this machine's bytes."""
    words = [bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8)]
    address = ipaddress.ip_address(b"".join(words))
    return str(getattr(address, "ipv4_mapped", None) or address)
