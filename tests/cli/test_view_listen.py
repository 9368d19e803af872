"""``bevstack view --listen`` takes what a node takes and publishes, and waits for a node."""

from __future__ import annotations

import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("cyclonedds", reason="needs cyclonedds: pip install 'bevstack[ros]'")
pytest.importorskip("rosbags", reason="needs rosbags: pip install 'bevstack[ros]'")

from bevstack.cli.main import build_parser
from bevstack.cli.view_live_options import live_words
from bevstack.export.drive_bag import write_drive_bag
from bevstack.export.messages.bag import Publication, write_bag
from bevstack.export.messages.bag_reader import BagReader
from bevstack.export.messages.store import open_store
from bevstack.runtime.node.parameters import Parameters
from bevstack.runtime.ros.dds import DdsTransport
from bevstack.runtime.ros.decoding import stamp_us
from bevstack.tables.reader import Tables
from bevstack.viewer.growing import GrowingDrive
from bevstack.viewer.node_bag import BagMoments
from bevstack.viewer.node_moments import NodeListener, NodeMoments
from tests.cli.test_view import refused
from tests.export.drives import SCENE, VERSION_NAME, write_swept_root
from tests.runtime.node.inputs import FakeDetector
from tests.runtime.ros.bags import replay
from tests.runtime.ros.domains import own_domain
from tests.viewer.processes import listening_addresses


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag of a drive together with what the node publishes for it."""
    root, store = write_swept_root(tmp_path_factory.mktemp("swept")), open_store()
    write_drive_bag(root / "drive.mcap", Tables(root, VERSION_NAME), SCENE, store)
    _, results = replay(root / "drive.mcap", FakeDetector(), store=store)
    with BagReader(root / "drive.mcap", store) as bag:
        inputs = [Publication(r.topic, r.time_ns // 1000, bag.decode(r)) for r in bag.messages()]
    messages = sorted([*inputs, *results], key=lambda publication: publication.timestamp_us)
    write_bag(root / "both.mcap", messages, store)
    return root / "both.mcap"


def player(bag: Path, domain: int) -> list[str]:
    options = ("--bag", str(bag), "--domain", str(domain), "--wait", "60", "--rate", "0.1")
    return [sys.executable, "-m", "bevstack", "play-bag", *options]


@contextmanager
def viewer(domain: int) -> Iterator[subprocess.Popen[str]]:
    options = ("--listen", "--domain", str(domain), "--port", "0")
    process = subprocess.Popen(
        [sys.executable, "-m", "bevstack", "view", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def interrupt(process: subprocess.Popen[str]) -> None:
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert time.monotonic() - start < 20  # 2 s on processors of its own


def test_a_played_node_gives_moments_with_tracks_and_pictures(both: Path) -> None:
    store, drive, domain = open_store(), GrowingDrive(), own_domain(5)
    moments = NodeMoments(Parameters(), store, drive=drive)
    listener = NodeListener(moments, DdsTransport(store, domain=domain))
    listener.start()
    try:
        command = player(both, domain)
        done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
        assert done.returncode == 0, done.stderr
        assert drive.wait_for(3, 30)
        time.sleep(0.5)
    finally:
        listener.stop()
    # Images are sent with best effort: a busy machine may lose some
    found = [drive.moment("", index) for index in range(drive.count(""))]
    assert len(found) >= 8 and drive.progress.startswith(f"{len(found)} results of bevstack")
    assert all(len(at.predicted[0].boxes) for at in found)
    assert max(sum(c.encoded is not None for c in at.cameras) for at in found) == 6
    assert any(at.trails for at in found) and found[-1].world_from_ego is not None
    assert [at.timestamp_us for at in found] == sorted({at.timestamp_us for at in found})


def test_the_verb_waits_for_a_node_and_prints_an_address_at_its_first_result(both: Path) -> None:
    pytest.importorskip("viser")
    domain = own_domain(6)
    with viewer(domain) as process:
        assert process.stdout is not None and process.stderr is not None
        line = process.stderr.readline()
        assert f"waits for results on /bevstack/detections (domain {domain}, interface lo)" in line
        assert not select.select([process.stdout], [], [], 0.5)[0]  # no address without a node
        play = subprocess.Popen(player(both, domain), stdout=subprocess.DEVNULL)
        try:
            address = process.stdout.readline().strip()
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+", address)
            port = int(address.rpartition(":")[2])
            assert listening_addresses(port) == {"0100007F"}
            interrupt(process)
        finally:
            play.kill()
            play.wait()
        assert not listening_addresses(port)


def test_an_interrupt_ends_the_wait_for_a_node() -> None:
    pytest.importorskip("viser")
    with viewer(own_domain(7)) as process:
        assert process.stderr is not None
        assert "waits for results" in process.stderr.readline()
        interrupt(process)


def test_bags_give_the_moments_of_the_drive_and_its_node(both: Path) -> None:
    store, drive = open_store(), GrowingDrive()
    with BagReader(both, store) as bag:
        results = list(bag.messages(["/bevstack/detections"]))
        stamps = [stamp_us(bag.decode(raw).header.stamp) for raw in results]
        only = [Publication(r.topic, r.time_ns // 1000, bag.decode(r)) for r in bag.messages()]
    published = [p for p in only if p.topic.startswith("/bevstack/")]
    write_bag(both.with_name("results.mcap"), published, store)
    paths = [both.with_name("results.mcap"), both.with_name("drive.mcap")]
    bags = BagMoments(paths, Parameters(), drive=drive)
    try:
        drive.wait_for(len(stamps), 60)
        assert drive.has_ended and drive.failure is None
    finally:
        bags.stop()
    found = [drive.moment("", index) for index in range(drive.count(""))]
    assert [at.timestamp_us for at in found] == stamps and len(stamps) > 10
    assert all(c.encoded is not None for c in found[-1].cameras) and found[-1].trails


def test_bags_without_results_are_refused(both: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["view", "--port", "0", "--bag"]
    drive = str(both.with_name("drive.mcap"))
    assert "bags must hold a node's results on /bevstack/det" in refused([*words, drive], capsys)
    assert "bag must exist; got no file" in refused([*words, "none.mcap"], capsys)


@pytest.mark.parametrize(
    "words",
    [
        ["--listen", "--domain", "7", "--interface", "auto", "--params", "node.yaml"],
        ["--bag", "results.mcap", "drive.mcap", "--params", "node.yaml"],
    ],
)
def test_a_command_line_names_the_same_topics(words: list[str]) -> None:
    assert live_words(build_parser().parse_args(["view", *words])) == words


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        (("--interface", "none0", "--domain", "77"), "interface must be one of this machine"),
        (("--params", "none.yaml"), "none.yaml"),
        (("--save", "a.png"), "--listen and --bag must be given without --save and"),
        (("--rig", "rig.json"), "must be given; got --rig FILE and --listen"),
        (("--track",), "--track must be given with --rig; got --listen"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    rest: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("viser")
    assert message in refused(["view", "--listen", "--port", "0", *rest], capsys)


@pytest.mark.parametrize("module", ["cyclonedds", "rosbags"])
def test_without_the_extra_its_name_is_the_remedy(
    module: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("viser")
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    sentence = refused(["view", "--listen", "--port", "0", "--domain", "78"], capsys)
    assert sentence.endswith("must be installed; got no such module; pip install 'bevstack[ros]'")
