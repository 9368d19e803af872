"""Health of the cameras of a stream: late, black, frozen, blurred, swapped, turned and so on."""

from bevstack.runtime.health.monitor import HealthMonitor
from bevstack.runtime.health.received import Received, receive_images

__all__ = ["HealthMonitor", "Received", "receive_images"]
