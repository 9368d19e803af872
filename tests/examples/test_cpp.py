"""The C++ example prints the boxes that Python finds in the same files."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
import torch
from scipy.spatial.transform import Rotation

openvino = pytest.importorskip("openvino", reason="needs openvino: pip install openvino")
pytest.importorskip("onnxscript", reason="needs onnxscript: pip install 'bevstack[export]'")

from bevstack.cli.main import main  # noqa: E402
from bevstack.datasets.nuscenes import NuScenesDataset  # noqa: E402
from bevstack.export.onnx.check import Tolerances, count_unmatched  # noqa: E402
from bevstack.export.openvino_file import custom_operators_library  # noqa: E402
from bevstack.export.runtimes import OPENVINO, open_session  # noqa: E402
from bevstack.models.build import save_model  # noqa: E402
from bevstack.runtime.detector import build  # noqa: E402
from bevstack.runtime.exported import ExportedDetector  # noqa: E402
from bevstack.runtime.rig import frame_from_rig, read_rig  # noqa: E402
from bevstack.synthetic import WorldSpec, make_world  # noqa: E402
from bevstack.types import Boxes3D, Detections  # noqa: E402
from tests.small_world import CONFIG  # noqa: E402
from tests.sources import ROOT  # noqa: E402

pytestmark = pytest.mark.slow
SOURCES = ROOT / "examples" / "cpp"
HEADERS = {"jpeglib.h": "libjpeg-dev", "nlohmann/json.hpp": "nlohmann-json3-dev"}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the example as its page does."""
    for name in ("c++", "cmake"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
    for header, package in HEADERS.items():
        probe = f"#include <cstdio>\n#include <{header}>\n"
        found = subprocess.run(
            ["c++", "-E", "-x", "c++", "-"], input=probe, capture_output=True, text=True
        )
        if found.returncode:
            pytest.skip(f"{package} is not installed")
    folder = tmp_path_factory.mktemp("cpp")
    cmake = f"-DOpenVINO_DIR={openvino.__path__[0]}/cmake"
    for command in (["-S", str(SOURCES), "-B", str(folder), cmake], ["--build", str(folder)]):
        done = subprocess.run(["cmake", *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "boxes"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights whose boxes depend on the pixels, as those of new weights do not."""
    detector = build(CONFIG)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in detector.model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=draw)
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_model(path, detector.model, CONFIG)
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("world") / "root"
    make_world(path, WorldSpec(train_scenes=0, val_scenes=1, samples_per_scene=3, seed=8))
    return path


@pytest.fixture(scope="module")
def rig(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write six JPEGs and a rig: one camera of no known role, one lost, poses in both forms."""
    folder = tmp_path_factory.mktemp("rig")
    frame = NuScenesDataset(root, "v1.0-synth").frame(0)
    cameras = []
    for index, name in enumerate(frame.camera_names):
        image = frame.images[index]
        assert image is not None
        height, width = image.shape[:2]
        cv2.imwrite(str(folder / f"{name}.jpg"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        pose = frame.ego_from_cam[index]
        x, y, z, w = Rotation.from_matrix(pose[:3, :3].numpy()).as_quat()
        parts = {"rotation_wxyz": [w, x, y, z], "translation_m": pose[:3, 3].tolist()}
        cameras.append(
            {
                "name": "SIDE" if index == 2 else name,
                "image": f"{name}.jpg",
                "width": width,
                "height": height,
                "intrinsics": frame.intrinsics[index].tolist(),
                "ego_from_cam": parts if index % 2 else pose.tolist(),
                "lost": index == 4,
            }
        )
    content = {"format": "bevstack-rig-1", "cameras": cameras}
    (folder / "rig.json").write_text(json.dumps(content))
    return folder


def export(path: Path, weights: Path, root: Path, *options: str) -> Path:
    data = ("--nuscenes", str(root), "--version", "v1.0-synth")
    command = ["export", "--onnx", str(path), "--weights", str(weights), *data, *options]
    assert main(command) == 0
    return path


@pytest.fixture(scope="module")
def model(weights: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("model") / "m.onnx", weights, root)


def run(program: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [str(program), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


def parse(text: str, names: tuple[str, ...]) -> Detections:
    rows = [line.split() for line in text.splitlines()]
    numbers = torch.tensor([[float(word) for word in row[1:]] for row in rows])
    scores, center, size, yaw, velocity = numbers.split((1, 3, 3, 1, 2), 1)
    labels = torch.tensor([names.index(row[0]) for row in rows])
    return Detections(Boxes3D(center, size, yaw[:, 0], velocity), scores[:, 0], labels, names)


def assert_equal_boxes(program: Path, model: Path, rig: Path, *words: object) -> Detections:
    done = run(program, model, rig / "rig.json", rig, *words)
    assert done.returncode == 0, done.stderr
    found = parse(done.stdout, CONFIG.class_names)
    detector = ExportedDetector(open_session(model, OPENVINO))
    wanted = detector.predict(frame_from_rig(read_rig(rig / "rig.json"), rig))
    assert len(wanted) > 10
    # The pixels are equal, so that only rounding of the printed digits and of the poses is left.
    assert count_unmatched(wanted, found, Tolerances(), {}) == 0
    return found


def test_boxes_equal_those_of_python(program: Path, model: Path, rig: Path) -> None:
    assert_equal_boxes(program, model, rig)


def test_boxes_depend_on_every_working_camera(
    program: Path, model: Path, rig: Path, tmp_path: Path
) -> None:
    found = assert_equal_boxes(program, model, rig)
    shutil.copytree(rig, tmp_path / "rig")
    content = json.loads((rig / "rig.json").read_text())
    for camera in content["cameras"]:
        if camera["lost"]:
            continue
        picture = cv2.imread(str(rig / camera["image"]))
        cv2.imwrite(str(tmp_path / "rig" / camera["image"]), 255 - picture)
        done = run(program, model, rig / "rig.json", tmp_path / "rig")
        changed = parse(done.stdout, CONFIG.class_names)
        assert count_unmatched(found, changed, Tolerances(), {}) > 0, camera["name"]
        shutil.copy(rig / camera["image"], tmp_path / "rig")


def test_a_model_with_our_operators_runs_with_their_library(
    program: Path, weights: Path, root: Path, rig: Path, tmp_path: Path
) -> None:
    model = export(tmp_path / "own.onnx", weights, root, "--custom-ops")
    assert_equal_boxes(program, model, rig, custom_operators_library())
    assert run(program, model, rig / "rig.json", rig).returncode == 1


def without_format(content: dict) -> None:
    content["format"] = "another"


def with_distortion(content: dict) -> None:
    content["cameras"][1]["distortion"] = {"model": "plumb_bob", "coefficients": [0.1]}


def with_another_size(content: dict) -> None:
    content["cameras"][0]["width"] += 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without_format, "rig.json: format is another one"),
        (with_distortion, "has a distortion: undistort its images"),
        (with_another_size, "has another size than in the rig"),
    ],
)
def test_files_that_do_not_fit_are_named(
    change: Callable[[dict], None],
    reason: str,
    program: Path,
    model: Path,
    rig: Path,
    tmp_path: Path,
) -> None:
    content = json.loads((rig / "rig.json").read_text())
    change(content)
    (tmp_path / "rig.json").write_text(json.dumps(content))
    done = run(program, model, tmp_path / "rig.json", rig)
    assert done.returncode == 1 and reason in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not done.stdout


def test_a_damaged_picture_is_named(program: Path, model: Path, rig: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(rig, tmp_path / "rig")
    picture = folder / json.loads((rig / "rig.json").read_text())["cameras"][0]["image"]
    picture.write_bytes(b"no picture")
    done = run(program, model, rig / "rig.json", folder)
    assert done.returncode == 1 and f"{picture}: Not a JPEG file" in done.stderr
    picture.unlink()
    assert f"cannot open {picture}" in run(program, model, rig / "rig.json", folder).stderr
