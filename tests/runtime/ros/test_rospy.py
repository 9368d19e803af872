"""Topics of ROS 1 without an installation of it; `make test-ros` runs them with Debian's."""

from __future__ import annotations

import sys

import pytest

pytest.importorskip("rosbags", reason="needs rosbags: pip install 'bevstack[ros]'")

from bevstack.export.messages.store import open_store
from bevstack.runtime.ros.rospy import RospyTransport


def test_a_missing_rospy_is_named_with_the_page_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rospy", None)
    with pytest.raises(ModuleNotFoundError, match=r"rospy must be importable; got .* docs/node.md"):
        RospyTransport(open_store("noetic"), name="bevstack")
