"""The node on DDS with Fast DDS as its sensors, and Fast DDS and @foxglove/ros2 as listeners."""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path

import cv2

from bevstack.export.messages.store import open_store
from tests.ros_peers.conftest import Drive
from tests.ros_peers.programs import Program, numbers_of

NUMBER = 20
LISTENER = Path(__file__).with_name("foxglove_listener.js")
TYPES = {
    "/bevstack/detections": "vision_msgs/msg/Detection3DArray",
    "/bevstack/objects": "autoware_perception_msgs/msg/DetectedObjects",
    "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
}
# A step may take seconds on busy processors; the peer sends a window after the result before it.
SETTINGS = ("cameras=CAM_FRONT,CAM_BACK", "sync_timeout_ms=5000", "max_age_ms=60000")


def node_command(weights: Path, domain: int, *settings: str) -> list[str]:
    command = [sys.executable, "-m", "bevstack", "node", "--dds", "--weights", str(weights)]
    command += ["--domain", str(domain), "--interface", "auto"]
    return [*command, *(word for setting in settings for word in ("--set", setting))]


def test_fast_dds_sends_images_and_two_listeners_receive_all_results(
    peers: Path, drive: Drive, tmp_path: Path
) -> None:
    store, domain = open_store(), "31"
    definitions = {topic: (name, store.definition(name)) for topic, name in TYPES.items()}
    (tmp_path / "definitions.json").write_text(json.dumps(definitions))
    pictures = sorted(str(path) for path in (drive.root / "sweeps" / "CAM_FRONT").glob("*.jpg"))
    height, width = cv2.imread(pictures[0]).shape[:2]
    node_js = shutil.which("node")
    assert node_js is not None
    with ExitStack() as running:

        def start(name: str, *command: str) -> Program:
            modules = {"NODE_PATH": str(peers / "npm/node_modules")}
            return running.enter_context(Program(command, tmp_path, name, modules))

        node = start("node", *node_command(drive.weights, int(domain), *SETTINGS))
        node.await_text(f"active on domain {domain}")
        listener = start("listener", node_js, str(LISTENER), domain, "definitions.json")
        for topic in TYPES:
            listener.await_text(f"found {topic}\n")
        words = (domain, str(NUMBER), str(width), str(height), *pictures)
        sent = start("peer", str(peers / "fastdds/peer"), *words)
        sent.ended()
        results, _ = numbers_of(node.interrupted())
        listener.interrupted()
    lines = [line.split() for line in sent.lines()]
    stamps = [words[1] for words in lines if words[0] == "sent"]
    assert len(set(stamps)) == NUMBER
    boxes = [words[1:] for words in lines if words[0] == "detections"]
    objects = [words[1:] for words in lines if words[0] == "objects"]
    # N of N, in order, at Fast DDS; the two topics hold the same boxes.
    assert len(boxes) == results >= NUMBER and [words[0] for words in boxes][-NUMBER:] == stamps
    assert boxes == objects and all(int(words[1]) == len(words) - 2 > 0 for words in boxes)
    found = [line.split() for line in listener.lines()]
    listened = [words[1:] for words in found if words[0] == "/bevstack/detections"]
    assert [words[0] for words in listened] == [words[0] for words in boxes]
    for one, other in zip(boxes, listened, strict=True):
        # Fast DDS' peer prints six digits.
        assert one[2:] == [f"{float(x):.6g}" for x in other[2:]]
    counts = [words[2] for words in found if words[0] == "/bevstack/objects"]
    assert counts == [words[1] for words in objects]
    statuses = [line for line in sent.lines() if line.startswith("diagnostics")]
    assert any(" 0 bevstack: camera_CAM_BACK ok" in line for line in statuses)
    assert any(words[0] == "/diagnostics" for words in found)
