"""Trust in sectors on the node's topics, in its diagnostics, and in bags of Autoware."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs rosbags: pip install 'bevstack[ros]'")

from bevstack.export.drive_bag import write_drive_bag
from bevstack.export.messages.bag import write_bag
from bevstack.export.messages.bag_reader import BagReader
from bevstack.export.messages.store import open_store
from bevstack.runtime.detector import Detector, build
from bevstack.runtime.loading import load
from bevstack.runtime.node.diagnostics import Diagnostician
from bevstack.runtime.node.parameters import Parameters
from bevstack.runtime.ros.replay import BagReplay
from bevstack.runtime.ros.wiring import make_node
from bevstack.tables.reader import Tables
from bevstack.types.sectors import SectorTrust
from tests.export.bags import read_mcap, stamp_us
from tests.export.drives import SCENE, VERSION_NAME, write_swept_root
from tests.runtime.ros.bags import copy_bag, on_topic, replay
from tests.runtime.test_streaming import temporal
from tests.runtime.traffic_weights import write_both
from tests.uncertainty.rigs import odd_sector_model


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_swept_root(tmp_path_factory.mktemp("swept"))
    write_drive_bag(root / "drive.mcap", Tables(root, VERSION_NAME), SCENE, open_store())
    return root / "drive.mcap"


@pytest.fixture(scope="module")
def calibrated() -> Detector:
    plain = build(temporal())
    return Detector(plain.model, plain.config, sector_model=odd_sector_model())


def test_each_result_has_the_trust_of_its_cameras(
    bag: Path, calibrated: Detector, tmp_path: Path
) -> None:
    silent_from_us = 1_600_000_000_700_000

    def lose_front(topic: str, time_us: int, message: object) -> list[tuple[int, object]]:
        lost = topic.startswith("/CAM_FRONT/") and time_us > silent_from_us
        return [] if lost else [(time_us, message)]

    copy_bag(bag, tmp_path / "lost.mcap", lose_front)  # type: ignore[arg-type]
    parts, published = replay(tmp_path / "lost.mcap", calibrated)
    texts = list(on_topic(published, "sectors"))
    boxes = list(on_topic(published, "detections"))
    assert len(texts) == len(boxes) > 10
    entries = [json.loads(text.data) for text in texts]
    for entry, message in zip(entries, boxes, strict=True):
        assert entry["timestamp_us"] == stamp_us(message.header.stamp)
    first, last = (SectorTrust.from_entry("sectors", entries[row]) for row in (1, -1))
    assert (last.trust[0] < first.trust[0] - 0.1).all()  # ahead
    # Behind: gaps between the cameras are remembered as the vehicle turns.
    assert np.array_equal(last.trust[4], first.trust[4])
    assert (last.trust[3:6] >= first.trust[3:6]).all()
    result = parts.core.last_result
    assert result is not None and result.state.sectors is not None
    assert np.array_equal(result.state.sectors.trust, last.trust)
    status = sectors_of(parts.core, result.timestamp_us + 1000)
    assert status.message == "from near to far; least: front"
    assert dict(status.values)["back"] == " ".join(f"{v:.2f}" for v in last.trust[4])
    assert len(status.values) == 8
    old = sectors_of(parts.core, result.timestamp_us + 5_000_000)
    assert old.message == "not known without a result" and not old.values


def sectors_of(core, now_us: int):
    statuses = Diagnostician(core, model="m", times=False).statuses(now_us)
    return next(status for status in statuses if status.name.endswith(": sectors"))


def test_weights_without_a_calibration_publish_none_and_name_the_remedy(bag: Path) -> None:
    parts, published = replay(bag, build(temporal()))
    assert not list(on_topic(published, "sectors"))
    result = parts.core.last_result
    assert result is not None
    status = sectors_of(parts.core, result.timestamp_us + 1000)
    assert status.message.startswith("the weights have no calibration of it: fit it with")


def test_another_reader_decodes_every_topic_of_the_node(bag: Path, tmp_path: Path) -> None:
    loaded = load(write_both(tmp_path / "both.safetensors"))
    detector = Detector(
        loaded.model, loaded.config, further=loaded.further, sector_model=odd_sector_model()
    )
    store = open_store()
    parts = make_node(detector, Parameters({"light_ids": "hash"}), store, model="model", times=True)
    with BagReader(bag, store) as reader:
        published = list(BagReplay(parts, reader).publications())
    write_bag(tmp_path / "all.mcap", published, store)
    found = read_mcap(tmp_path / "all.mcap")
    assert len(found) == len(published)
    advertised = {topic for topic, _ in parts.publisher.advertised()}
    # Random weights may see no light, and those are not published then.
    lights = {"/bevstack/traffic_lights"} - {p.topic for p in published}
    assert {read.topic for read in found} == (advertised | {"/diagnostics"}) - lights
    texts = [read.message.data for read in found if read.topic == "/bevstack/sectors"]
    wanted = [message.data for message in on_topic(published, "sectors")]
    assert texts == wanted and len(texts) > 10
    boxes = [len(read.message.detections) for read in found if "detections" in read.topic]
    assert boxes == [len(message.detections) for message in on_topic(published, "detections")]
