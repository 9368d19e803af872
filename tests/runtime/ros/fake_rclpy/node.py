"""Managed node of the fake rclpy: publishers, subscriptions, parameters and life cycle."""

from __future__ import annotations

import contextlib
import inspect
import queue
import re
import sys
import threading
from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

from tests.runtime.ros.fake_rclpy import running
from tests.runtime.ros.fake_rclpy.messages import Message, deserialize
from tests.runtime.ros.fake_rclpy.network import Endpoint
from tests.runtime.ros.fake_rclpy.values import Parameter, QoSProfile


class TransitionCallbackReturn(Enum):
    """Outcomes of a transition."""

    SUCCESS = 0
    FAILURE = 1
    ERROR = 2


class LifecycleState(NamedTuple):
    """State before a transition, as callbacks get it."""

    label: str
    state_id: int


# label -> state before, state meanwhile, goal, and callback
TRANSITIONS = {
    "configure": (("unconfigured",), "configuring", "inactive", "on_configure"),
    "activate": (("inactive",), "activating", "active", "on_activate"),
    "deactivate": (("active",), "deactivating", "inactive", "on_deactivate"),
    "cleanup": (("inactive",), "cleaningup", "unconfigured", "on_cleanup"),
    "shutdown": (
        ("unconfigured", "inactive", "active"),
        "shuttingdown",
        "finalized",
        "on_shutdown",
    ),
}
NUMBERS = {
    "unconfigured": 1,
    "inactive": 2,
    "active": 3,
    "finalized": 4,
    "configuring": 10,
    "cleaningup": 11,
    "shuttingdown": 12,
    "activating": 13,
    "deactivating": 14,
    "errorprocessing": 15,
}


class Publisher:
    """Publisher that takes messages of its type, or bytes."""

    def __init__(self, node: LifecycleNode, endpoint: Endpoint) -> None:
        self._node, self._endpoint = node, endpoint

    def publish(self, msg: Message | bytes) -> None:
        """Publish a message."""
        if not self._node.context.ok():
            raise RuntimeError("publisher's context is invalid")
        if not isinstance(msg, bytes):  # the node has no other use of it
            raise TypeError(f"Expected {self._endpoint.kind}, got {type(msg)}")
        deserialize(self._node.network.store, msg, self._endpoint.kind)  # must be one
        self._node.network.send(self._endpoint, msg)


class Logger:
    """Keeper of what a node logs."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def warning(self, message: str) -> None:
        """Log a warning."""
        self.lines.append(("warning", message))

    def error(self, message: str) -> None:
        """Log an error."""
        self.lines.append(("error", message))

    def fatal(self, message: str) -> None:
        """Log a fatal error."""
        self.lines.append(("fatal", message))


class LifecycleNode:
    """Managed node; its services are methods that run in the executor."""

    def __init__(
        self,
        node_name: str,
        *,
        enable_communication_interface: bool = True,
        context: running.Context | None = None,
        parameter_overrides: list[Parameter] | None = None,
    ) -> None:
        assert context is not None and context.ok()
        assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", node_name)
        self.network = running.NETWORKS[-1]
        assert node_name not in self.network.nodes and enable_communication_interface
        self.waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._name, self._context, self._logger = node_name, context, Logger()
        self._endpoints: list[Endpoint] = []
        self._overrides = {p.name: p for p in parameter_overrides or []}
        self._parameters: dict[str, Parameter] = {}
        self._descriptors: dict[str, Any] = {}
        self._checks: list[Callable[[list[Parameter]], Any]] = []
        self._state = "unconfigured"
        messages = sys.modules["lifecycle_msgs.msg"]
        self._events = Endpoint(
            f"/{node_name}/transition_event", messages.TransitionEvent, QoSProfile(depth=10)
        )
        self.network.add_publisher(self._events)
        self._endpoints.append(self._events)
        interfaces = sys.modules["rcl_interfaces.msg"]
        self.declare_parameter("use_sim_time", False, interfaces.ParameterDescriptor())
        self.network.nodes[node_name] = self

    @property
    def context(self) -> running.Context:
        """Return the context."""
        return self._context

    def get_logger(self) -> Logger:
        """Return the log."""
        return self._logger

    def create_publisher(self, msg_type: Any, topic: str, qos_profile: QoSProfile) -> Publisher:
        """Open a publisher."""
        assert issubclass(msg_type, Message) and isinstance(qos_profile, QoSProfile)
        endpoint = Endpoint(topic, msg_type, qos_profile)
        self.network.add_publisher(endpoint)
        self._endpoints.append(endpoint)
        return Publisher(self, endpoint)

    def create_subscription(
        self,
        msg_type: Any,
        topic: str,
        callback: Callable[[Any], None],
        qos_profile: QoSProfile,
        *,
        raw: bool = False,
    ) -> None:
        """Open a subscription; at most as many messages wait as its depth."""
        assert issubclass(msg_type, Message) and isinstance(qos_profile, QoSProfile)
        assert raw  # the node has no other use of it
        inspect.signature(callback).bind(object())
        kept: list[bytes] = []
        lock = threading.Lock()

        def run() -> None:
            with lock:
                data = kept.pop(0) if kept else None
            if data is not None:
                callback(data)

        def deliver(data: bytes) -> None:
            with lock:
                kept.append(data)
                del kept[: -qos_profile.depth]
            self.waiting.put(run)

        endpoint = Endpoint(topic, msg_type, qos_profile, deliver)
        self.network.add_subscription(endpoint)
        self._endpoints.append(endpoint)

    def destroy_node(self) -> None:
        """Close all."""
        self.network.remove(self._endpoints)
        del self.network.nodes[self._name]

    # Parameters

    def declare_parameter(self, name: str, value: Any, descriptor: Any) -> Parameter:
        """Declare a parameter; an override of the same name replaces its value."""
        assert isinstance(descriptor, sys.modules["rcl_interfaces.msg"].ParameterDescriptor)
        if name in self._parameters:
            raise RuntimeError(f"ParameterAlreadyDeclared: {name}")
        descriptor.type = Parameter.Type.from_parameter_value(value).value
        given = self._overrides.get(name, Parameter(name, value=value))
        if given.type_.value != descriptor.type:
            raise TypeError(f"InvalidParameterType: {name}")
        self._parameters[name], self._descriptors[name] = given, descriptor
        return given

    def add_on_set_parameters_callback(self, callback: Callable[[list[Parameter]], Any]) -> None:
        """Add a check of parameters that are set."""
        self._checks.insert(0, callback)

    def get_parameter(self, name: str) -> Parameter:
        """Return a parameter."""
        return self._parameters[name]

    def describe_parameter(self, name: str) -> Any:
        """Return the descriptor of a parameter."""
        return self._descriptors[name]

    def service_set_parameters(self, given: list[Parameter]) -> Any:
        """Set all or none."""
        result = sys.modules["rcl_interfaces.msg"].SetParametersResult
        for parameter in given:
            descriptor = self._descriptors.get(parameter.name)
            if descriptor is None:
                return result(successful=False, reason=f"not declared: {parameter.name}")
            if descriptor.read_only:
                reason = f"Trying to set a read-only parameter: {parameter.name}."
                return result(successful=False, reason=reason)
            if parameter.type_.value != descriptor.type:
                return result(successful=False, reason=f"Wrong parameter type: {parameter.name}")
            for limits in descriptor.floating_point_range:
                if not limits.from_value <= parameter.value <= limits.to_value:
                    return result(successful=False, reason=f"out of range: {parameter.name}")
        for check in self._checks:
            found = check(given)
            assert isinstance(found, result)
            if not found.successful:
                return found
        self._parameters.update({parameter.name: parameter for parameter in given})
        return result(successful=True, reason="")

    # Life cycle

    @property
    def state_machine_label(self) -> str:
        """Return the label of the state."""
        return self._state

    def trigger_configure(self) -> TransitionCallbackReturn:
        """Configure."""
        return self._change("configure")

    def trigger_activate(self) -> TransitionCallbackReturn:
        """Activate."""
        return self._change("activate")

    def trigger_deactivate(self) -> TransitionCallbackReturn:
        """Deactivate."""
        return self._change("deactivate")

    def trigger_cleanup(self) -> TransitionCallbackReturn:
        """Clean up."""
        return self._change("cleanup")

    def trigger_shutdown(self) -> TransitionCallbackReturn:
        """Shut down."""
        return self._change("shutdown")

    def service_change_state(self, label: str) -> bool:
        """Run a transition that another node asks for."""
        if self._state not in TRANSITIONS[label][0]:
            return False
        return self._change(label) is TransitionCallbackReturn.SUCCESS

    def _change(self, label: str) -> TransitionCallbackReturn:
        starts, meanwhile, goal, name = TRANSITIONS[label]
        before = self._state
        if before not in starts:
            raise RuntimeError(f"RCLError: transition {label} is not possible in {before}")
        self._enter(label, meanwhile)
        found = TransitionCallbackReturn.ERROR
        with contextlib.suppress(Exception):  # as rclpy does
            found = getattr(self, name)(LifecycleState(before, NUMBERS[before]))
        assert isinstance(found, TransitionCallbackReturn)
        if found is TransitionCallbackReturn.ERROR:
            self._enter("transition_error", "errorprocessing")
            outcome = self.on_error(LifecycleState(before, NUMBERS[before]))
            recovered = outcome is TransitionCallbackReturn.SUCCESS
            self._enter("transition_x", "unconfigured" if recovered else "finalized")
        else:
            is_success = found is TransitionCallbackReturn.SUCCESS
            self._enter(f"transition_{found.name.lower()}", goal if is_success else before)
        return found

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Recover, by default."""
        return TransitionCallbackReturn.SUCCESS

    def _enter(self, label: str, goal: str) -> None:
        """Change the state, and publish it."""
        message = self.network.message
        event = message(
            "lifecycle_msgs/TransitionEvent",
            transition=message("lifecycle_msgs/Transition", label=label),
            start_state=message("lifecycle_msgs/State", id=NUMBERS[self._state], label=self._state),
            goal_state=message("lifecycle_msgs/State", id=NUMBERS[goal], label=goal),
        )
        self._state = goal
        if self._context.ok():
            self.network.publish(self._events.topic, event)

    def call(self, work: Callable[[LifecycleNode], Any]) -> Any:
        """Run work in the executor, as a service; return its result."""
        done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.waiting.put(lambda: done.put(work(self)))
        return done.get(timeout=60)
