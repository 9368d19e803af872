"""Managed node of rclpy: its life cycle is that of the node, and its parameters are the node's.

Written against the published interface of rclpy in Humble and Jazzy.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

from bevstack.runtime.node.lifecycle import Change, Lifecycle
from bevstack.runtime.node.parameters import DECLARED, Parameters, Value

_SIMULATED_TIME = "use_sim_time"  # rclpy declares it for every node


def make_managed_node(name: str, context: Any, parameters: Parameters) -> Any:
    """Return a LifecycleNode of rclpy with the services and topics that ROS 2 gives one.

    Args:
        name: of the node, without a namespace.
        context: rclpy's context, initialised.
        parameters: the values that the node starts with; parameters set later change them.
    """
    from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
    from rclpy.parameter import Parameter

    class ManagedRclpyNode(LifecycleNode):  # type: ignore[misc]  # rclpy has no types here
        """Managed node whose transitions run those of a ``Lifecycle``."""

        lifecycle: Lifecycle | None = None  # set by ``manage``
        failure: BaseException | None = None  # of a transition; a fault of the program
        changing = threading.RLock()  # held by a transition of the life cycle

        def on_configure(self, state: Any) -> Any:
            """Run the transition to inactive."""
            return self._run("configure")

        def on_activate(self, state: Any) -> Any:
            """Run the transition to active."""
            return self._run("activate")

        def on_deactivate(self, state: Any) -> Any:
            """Run the transition back to inactive."""
            return self._run("deactivate")

        def on_cleanup(self, state: Any) -> Any:
            """Run the transition back to unconfigured."""
            return self._run("cleanup")

        def on_shutdown(self, state: Any) -> Any:
            """Run the transition to finalized."""
            return self._run("shutdown")

        def on_error(self, state: Any) -> Any:
            """Return a failure: the node is finalized after a fault of the program."""
            return TransitionCallbackReturn.FAILURE

        def _run(self, label: str) -> Any:
            assert self.lifecycle is not None  # set before the node spins
            try:
                with self.changing:
                    change = self.lifecycle.change(label)
            except Exception as error:  # rclpy drops it and calls ``on_error``
                self.failure = error
                self.get_logger().fatal(f"{label}: {type(error).__name__}: {error}")
                raise
            if change.reason:
                self.get_logger().error(change.reason)
                return TransitionCallbackReturn.FAILURE
            return TransitionCallbackReturn.SUCCESS

    simulated = Parameter(_SIMULATED_TIME, Parameter.Type.BOOL, parameters[_SIMULATED_TIME])
    node = ManagedRclpyNode(name, context=context, parameter_overrides=[simulated])
    declare_parameters(node, parameters)
    return node


def manage(node: Any, lifecycle: Lifecycle) -> Callable[[str], Change]:
    """Connect a node to a life cycle; return the function that runs a transition through rclpy.

    Services of other programs run the same transitions, and rclpy publishes all of them.
    """
    node.lifecycle = lifecycle
    triggers = {
        "configure": node.trigger_configure,
        "activate": node.trigger_activate,
        "deactivate": node.trigger_deactivate,
        "cleanup": node.trigger_cleanup,
        "shutdown": node.trigger_shutdown,
    }

    def change(label: str) -> Change:
        with node.changing:  # a service may run the same transition meanwhile
            possible = {transition.label for transition in lifecycle.transitions()}
            if label not in possible or node.failure is not None or not node.context.ok():
                return lifecycle.change(label)  # refused with the reason, or without rclpy
            triggers[label]()
        if node.failure is not None:
            raise node.failure
        return Change(lifecycle.state, lifecycle.reason)

    return change


def declare_parameters(node: Any, parameters: Parameters) -> None:
    """Declare all parameters with descriptions and ranges, and take changes at run time.

    An empty list of texts is declared as a list of one empty text, since rclpy takes an empty list
    for one of bytes.
    """
    from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor, SetParametersResult

    for declared in DECLARED:
        if declared.name == _SIMULATED_TIME:
            continue
        ranges = []
        if isinstance(declared.default, float) and math.isfinite(declared.low + declared.high):
            ranges = [
                FloatingPointRange(
                    from_value=float(declared.low), to_value=float(declared.high), step=0.0
                )
            ]
        choices = f"one of {', '.join(declared.choices)}" if declared.choices else ""
        descriptor = ParameterDescriptor(
            description=declared.description,
            additional_constraints=choices,
            read_only=declared.read_only,
            floating_point_range=ranges,
        )
        node.declare_parameter(declared.name, _to_ros(parameters[declared.name]), descriptor)
    known = {declared.name for declared in DECLARED}

    def take(changed: list[Any]) -> Any:
        """Set all changed parameters of the node, or none."""
        own = [parameter for parameter in changed if parameter.name in known]
        before = {parameter.name: parameters[parameter.name] for parameter in own}
        try:
            for parameter in own:
                parameters.set(parameter.name, _from_ros(parameter.value))
        except ValueError as error:
            for name, value in before.items():
                parameters.set(name, value)
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True, reason="")

    node.add_on_set_parameters_callback(take)


def _to_ros(value: Value) -> Any:
    if isinstance(value, tuple):
        return list(value) or [""]
    return value


def _from_ros(value: Any) -> object:
    if isinstance(value, (list, tuple)):
        return () if list(value) == [""] else tuple(value)
    return value
