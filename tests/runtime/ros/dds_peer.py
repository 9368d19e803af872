"""Peer on DDS for tests, with types written by hand for Cyclone DDS and nothing of bevstack.

It publishes images whose number stands in their stamp, until it has received as many diagnostics,
and prints the numbers that it received.
"""

import sys
import time
from dataclasses import dataclass

from cyclonedds.domain import Domain, DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import int32, sequence, uint8, uint32
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration


@dataclass
class Time_(IdlStruct, typename="builtin_interfaces.msg.dds_.Time_"):
    sec: int32
    nanosec: uint32


@dataclass
class Header_(IdlStruct, typename="std_msgs.msg.dds_.Header_"):
    stamp: Time_
    frame_id: str


@dataclass
class CompressedImage_(IdlStruct, typename="sensor_msgs.msg.dds_.CompressedImage_"):
    header: Header_
    format: str
    data: sequence[uint8]


@dataclass
class KeyValue_(IdlStruct, typename="diagnostic_msgs.msg.dds_.KeyValue_"):
    key: str
    value: str


@dataclass
class DiagnosticStatus_(IdlStruct, typename="diagnostic_msgs.msg.dds_.DiagnosticStatus_"):
    level: uint8
    name: str
    message: str
    hardware_id: str
    values: sequence[KeyValue_]


@dataclass
class DiagnosticArray_(IdlStruct, typename="diagnostic_msgs.msg.dds_.DiagnosticArray_"):
    header: Header_
    status: sequence[DiagnosticStatus_]


CONFIGURATION = """<CycloneDDS><Domain id="any"><General><Interfaces>
<NetworkInterface name="lo" multicast="false"/></Interfaces><AllowMulticast>false</AllowMulticast>
</General><Discovery><ParticipantIndex>auto</ParticipantIndex>
<Peers><Peer address="127.0.0.1"/></Peers></Discovery></Domain></CycloneDDS>"""


def main(number: int, domain: int) -> None:
    """Exchange messages."""
    domain_entity = Domain(domain, CONFIGURATION)
    participant = DomainParticipant(domain)
    sensor_data = Qos(
        Policy.Reliability.BestEffort, Policy.Durability.Volatile, Policy.History.KeepLast(5)
    )
    results = Qos(
        Policy.Reliability.Reliable(duration(infinite=True)), Policy.History.KeepLast(100)
    )
    images = DataWriter(
        participant,
        Topic(participant, "rt/CAM_FRONT/image_raw/compressed", CompressedImage_),
        qos=sensor_data,
    )
    diagnostics = DataReader(
        participant, Topic(participant, "rt/diagnostics", DiagnosticArray_), qos=results
    )
    end = time.monotonic() + 100
    while not (images.get_matched_subscriptions() and diagnostics.get_matched_publications()):
        if time.monotonic() > end:
            raise SystemExit("no peer")
        time.sleep(0.02)
    found: list[str] = []
    for index in range(number):
        header = Header_(Time_(1_600_000_000 + index, 7), "cam_front_optical_frame")
        images.write(CompressedImage_(header, "jpeg", list(bytes([index, 2, 3, 4, 5]) * 7)))
        while len(found) <= index and time.monotonic() < end:
            for sample in diagnostics.take(10):
                status = sample.status[0]
                found.append(f"{sample.header.stamp.sec} {status.level} {status.values[0].value}")
            time.sleep(0.005)
    sys.stdout.write("".join(f"{line}\n" for line in found))
    del domain_entity


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
