"""Stand-in for rclpy and the packages of messages of an installation of ROS 2.

It has the names, signatures and rules of the published interface (Humble and Jazzy) that the node
uses, refuses all else, and carries messages within the process.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from bevstack.export.messages.store import MessageStore
from tests.runtime.ros.fake_rclpy import node, running, values
from tests.runtime.ros.fake_rclpy.messages import make_packages
from tests.runtime.ros.fake_rclpy.network import Network

_CONTENT = {
    "rclpy": {"init": running.init, "try_shutdown": running.try_shutdown},
    "rclpy.context": {"Context": running.Context},
    "rclpy.executors": {
        "SingleThreadedExecutor": running.SingleThreadedExecutor,
        "ExternalShutdownException": running.ExternalShutdownException,
    },
    "rclpy.signals": {"SignalHandlerOptions": running.SignalHandlerOptions},
    "rclpy.lifecycle": {
        "LifecycleNode": node.LifecycleNode,
        "TransitionCallbackReturn": node.TransitionCallbackReturn,
    },
    "rclpy.parameter": {"Parameter": values.Parameter},
    "rclpy.qos": {
        "QoSProfile": values.QoSProfile,
        "HistoryPolicy": values.HistoryPolicy,
        "ReliabilityPolicy": values.ReliabilityPolicy,
        "DurabilityPolicy": values.DurabilityPolicy,
    },
}


@contextmanager
def installed(store: MessageStore, *, missing: tuple[str, ...] = ()) -> Iterator[Network]:
    """Make the fake importable, and yield its network.

    Args:
        store: the installed message types.
        missing: packages of messages that are not installed.
    """
    packages = make_packages(store, missing)
    network = Network(store, packages)
    added = {name: _module(name, content) for name, content in _CONTENT.items()}
    for package, classes in packages.items():
        added[package] = _module(package, {})
        added[f"{package}.msg"] = _module(f"{package}.msg", classes)
    before = {name: sys.modules.get(name) for name in (*added, *missing)}
    sys.modules.update(added)
    sys.modules.update(dict.fromkeys(missing))  # type: ignore[arg-type]  # import then fails
    running.NETWORKS.append(network)
    try:
        yield network
    finally:
        running.NETWORKS.remove(network)
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


def _module(name: str, content: dict[str, object]) -> ModuleType:
    module = ModuleType(name)
    module.__path__ = []  # type: ignore[attr-defined]  # a package
    vars(module).update(content)
    return module
