"""Node of ROS 1 for tests, on Debian's rospy and messages alone: it prints what it receives.

Types that Debian has no package of are made of the definition that the publisher sends.
"""

import sys

import genpy.dynamic
import rospy
from diagnostic_msgs.msg import DiagnosticArray
from visualization_msgs.msg import MarkerArray


def show(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def show_detections(raw):
    name, text = raw._connection_header["type"], raw._connection_header["message_definition"]
    kind = genpy.dynamic.generate_dynamic(name, text)[name]
    if kind._md5sum != raw._connection_header["md5sum"]:
        raise SystemExit(f"md5 of {name}: {kind._md5sum}")
    message = kind().deserialize(raw._buff)
    box = message.detections[0].bbox
    show(f"detections {message.header.stamp} {len(message.detections)} {box.center.position.x!r}")


def show_markers(message):
    stamps = {str(marker.header.stamp) for marker in message.markers if marker.action == 0}
    show(f"markers {' '.join(sorted(stamps))} {len(message.markers)}")


def show_diagnostics(message):
    show(f"diagnostics {message.header.stamp} {len(message.status)}")


def main():
    rospy.init_node("listener")
    rospy.Subscriber("/bevstack/detections", rospy.AnyMsg, show_detections)
    rospy.Subscriber("/bevstack/markers", MarkerArray, show_markers)
    rospy.Subscriber("/diagnostics", DiagnosticArray, show_diagnostics)
    show("ready")
    rospy.spin()


if __name__ == "__main__":
    main()
