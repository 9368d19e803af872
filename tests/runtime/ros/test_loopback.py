"""Topics on the loopback interface are received from this machine alone."""

from __future__ import annotations

import socket
import sys
import warnings
from pathlib import Path

import pytest

pytest.importorskip("cyclonedds", reason="needs cyclonedds: pip install 'bevstack[ros]'")
pytest.importorskip("rosbags", reason="needs rosbags: pip install 'bevstack[ros]'")

from bevstack.export.messages.store import open_store
from bevstack.runtime.ros import loopback
from bevstack.runtime.ros.dds import DdsTransport
from bevstack.runtime.ros.quality import SENSOR_DATA
from tests.runtime.ros.domains import own_domain
from tests.runtime.ros.sockets import receivers

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tables of Linux")


def test_a_socket_on_all_addresses_is_found() -> None:
    with socket.socket() as own:
        own.bind(("0.0.0.0", 0))
        own.listen()
        assert any(not receiver.is_local for receiver in receivers())


def test_a_transport_on_the_loopback_interface_receives_there_alone() -> None:
    before = len(receivers())
    transport = DdsTransport(open_store(), domain=own_domain(3))
    transport.subscribe("/a", "std_msgs/msg/String", SENSOR_DATA, print)
    transport.advertise("/b", "std_msgs/msg/String")
    transport.start()
    found = receivers()
    transport.close()
    assert len(found) >= before + 2 and all(receiver.is_local for receiver in found)


def test_a_system_that_cannot_limit_a_socket_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(loopback, "_bind", refuse)
    message = "must be received on the loopback interface alone; got Operation not permitted: any"
    with pytest.warns(UserWarning, match=message), loopback.received_on_loopback():
        own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own.close()
    monkeypatch.setattr(loopback, "_FOLDER", Path("/none"))
    with warnings.catch_warnings(), loopback.received_on_loopback():
        warnings.simplefilter("error")
