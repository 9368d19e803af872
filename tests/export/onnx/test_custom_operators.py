"""Our operators in OpenVINO: equal to torch's, in a library that is built once and checked."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("openvino")

import onnx
import openvino

from bevstack.cli.main import main
from bevstack.export.onnx.check import check
from bevstack.export.onnx.detector import ExportOptions, export_detector, reference_session
from bevstack.export.onnx.graph_info import CUSTOM_OPS, has_custom_ops
from bevstack.export.onnx.write import write_onnx
from bevstack.export.openvino_file import OpenVinoFile, custom_operators_library
from bevstack.export.runtimes import OPENVINO, open_file, open_session
from bevstack.ops import dcnv3, deformable_attention, ms_deform_attn
from bevstack.ops.openvino_library import extension_library
from tests.export.onnx.small_detectors import (
    CAMERAS,
    build,
    cases_of,
    single_frame_config,
    streaming_config,
)

# Both run the same kernels. Without a compiled torch extension, torch runs its reference, whose
# sums are in another order.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
# (batch, (height, width), groups, channels of a group, options): odd sizes, one to three images.
DCN_CASES = [
    (1, (5, 7), 1, 3, {"kernel_size": (3, 3), "stride": (1, 1), "padding": (1, 1)}),
    (2, (9, 6), 3, 16, {"kernel_size": (3, 5), "stride": (2, 1), "padding": (1, 2)}),
    (3, (11, 13), 5, 8, {"kernel_size": (3, 3), "stride": (2, 2), "padding": (1, 1)}),
    (2, (1, 37), 2, 32, {"kernel_size": (1, 1), "stride": (1, 1), "padding": (0, 0)}),
]
VARIANTS = [
    {"dilation": (1, 1), "offset_scale": 1.0, "remove_center": False, "softmax": False},
    {"dilation": (1, 2), "offset_scale": 1.7, "remove_center": True, "softmax": True},
]
LEVELS = ([(5, 7)], [(7, 4), (3, 3), (1, 2)])


@pytest.fixture(scope="module")
def library() -> Path:
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler c++")
    return custom_operators_library()


class Convolutions(nn.Module):
    """One ``dcnv3`` for each case."""

    def __init__(self, options: list[dict]) -> None:
        super().__init__()
        self.options = options

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        parts = [tensors[k : k + 3] for k in range(0, len(tensors), 3)]
        return tuple(
            dcnv3(*part, **options) for part, options in zip(parts, self.options, strict=True)
        )


def convolutions() -> tuple[nn.Module, list[Tensor]]:
    generator = torch.Generator().manual_seed(0)
    options, tensors = [], []
    for (batch, (height, width), groups, channels, fixed), variant in itertools.product(
        DCN_CASES, VARIANTS
    ):
        made = {**fixed, **variant, "groups": groups}
        kernel, points = made["kernel_size"], made["kernel_size"][0] * made["kernel_size"][1]
        if points == 1:
            made["remove_center"] = False
        points -= made["remove_center"]
        rows, columns = (
            (size + 2 * made["padding"][k] - made["dilation"][k] * (kernel[k] - 1) - 1)
            // made["stride"][k]
            + 1
            for k, size in enumerate((height, width))
        )
        place = (batch, rows, columns, groups * points)
        tensors += [
            torch.randn(batch, height, width, groups * channels, generator=generator),
            3 * torch.randn(*place[:3], 2 * place[3], generator=generator),
            torch.randn(*place, generator=generator),
        ]
        options.append(made)
    return Convolutions(options), tensors


class Attentions(nn.Module):
    """One ``ms_deform_attn`` for each case; packed rows have a fourth tensor."""

    def __init__(self, cases: list[tuple[list[tuple[int, int]], int]]) -> None:
        super().__init__()
        self.cases = cases

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        found, first = [], 0
        for shapes, count in self.cases:
            value, locations, weights, *index = tensors[first : first + count]
            packed = {"value_index": index[0]} if index else {}
            found.append(ms_deform_attn(value, shapes, locations, weights, **packed))
            first += count
        return tuple(found)


def attentions() -> tuple[nn.Module, list[Tensor]]:
    generator = torch.Generator().manual_seed(1)
    cases, tensors = [], []
    # The last number of rows is large enough that heads are copied first.
    for batch, shapes, packed, rows in itertools.product((1, 3), LEVELS, (False, True), (11, 200)):
        pixels = sum(height * width for height, width in shapes)
        leading = (rows,) if packed else (batch, rows)
        locations = 3 * torch.rand(*leading, 3, len(shapes), 5, 2, generator=generator) - 1
        locations.view(-1)[:8] = torch.tensor((0.0, 1.0, -0.1, 1.1, 0.5, 0.5, -9.0, 40.0))
        made = [
            torch.randn(batch, pixels, 3, 8, generator=generator),
            locations,
            torch.rand(*leading, 3, len(shapes), 5, generator=generator),
        ]
        if packed:
            made.append(torch.randint(0, batch, (rows,), generator=generator))
        cases.append((shapes, len(made)))
        tensors += made
    return Attentions(cases), tensors


class AnchoredAttentions(nn.Module):
    """One ``deformable_attention`` for each case: shapes, number of tensors, parts."""

    def __init__(self, cases: list[tuple[list[tuple[int, int]], int, int]]) -> None:
        super().__init__()
        self.cases = cases

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        found, first = [], 0
        for shapes, count, parts in self.cases:
            value, offsets, logits, points, *index = tensors[first : first + count]
            packed = {"value_index": index[0]} if index else {}
            found.append(
                deformable_attention(value, shapes, offsets, logits, points, parts=parts, **packed)
            )
            first += count
        return tuple(found)


def anchored_attentions() -> tuple[nn.Module, list[Tensor]]:
    generator = torch.Generator().manual_seed(2)
    cases, tensors = [], []
    for (batch, anchors, parts), shapes, packed, rows in itertools.product(
        ((1, 1, 1), (3, 2, 3)), LEVELS, (False, True), (11, 200)
    ):
        pixels = sum(height * width for height, width in shapes)
        leading = (rows,) if packed else (batch, rows)
        made = [
            torch.randn(batch, pixels, 3, 8, generator=generator),
            2 * torch.randn(*leading, 3, len(shapes), 6, 2, generator=generator),
            torch.randn(*leading, 3, len(shapes), 6, generator=generator),
            1.2 * torch.rand(*leading, anchors, 2, generator=generator) - 0.1,
        ]
        if packed:
            made.append(torch.randint(0, batch, (rows,), generator=generator))
        cases.append((shapes, len(made), parts))
        tensors += made
    return AnchoredAttentions(cases), tensors


NODES = {
    convolutions: "Dcnv3",
    attentions: "MsDeformAttn",
    anchored_attentions: "DeformableAttention",
}


@pytest.mark.parametrize("make", NODES)
def test_nodes_in_openvino_equal_the_operators(make, library: Path, tmp_path: Path) -> None:
    module, tensors = make()
    with torch.inference_mode():
        wanted = module(*tensors)
    inputs = {f"in_{index}": tensor.numpy() for index, tensor in enumerate(tensors)}
    names = tuple(f"out_{index}" for index in range(len(wanted)))
    path = tmp_path / "layers.onnx"
    mark = {CUSTOM_OPS: "true"}
    write_onnx(path, module, inputs, output_names=names, metadata=mark, custom_ops=True)
    operators = {node.op_type for node in onnx.load(path).graph.node if node.domain == "bevstack"}
    assert operators == {NODES[make]}
    for threads in (1, 2):
        found = OpenVinoFile(path, threads=threads).run(inputs)
        for name, ours in zip(names, wanted, strict=True):
            assert float(ours.abs().max()) > 0.1
            np.testing.assert_allclose(found[name], ours.numpy(), **CLOSE, err_msg=name)


def test_rows_of_an_image_that_is_not_there_are_refused(library: Path, tmp_path: Path) -> None:
    module, tensors = attentions()
    module.cases, first = module.cases[2:3], sum(count for _, count in module.cases[:2])
    tensors = tensors[first : first + 4]
    inputs = {f"in_{index}": tensor.numpy() for index, tensor in enumerate(tensors)}
    path, mark = tmp_path / "layers.onnx", {CUSTOM_OPS: "true"}
    write_onnx(path, module, inputs, output_names=("out",), metadata=mark, custom_ops=True)
    inputs["in_3"] = inputs["in_3"] + 1
    with pytest.raises(RuntimeError, match=r"value_index must lie in 0\.\.0; got 1\.\.1"):
        OpenVinoFile(path).run(inputs)


def test_a_detector_with_our_operators_equals_ours(library: Path, tmp_path: Path) -> None:
    path, config = tmp_path / "m.onnx", single_frame_config()
    model, cases = build(config), cases_of(config)
    options = ExportOptions(cameras=CAMERAS, custom_ops=True)
    (report,) = export_detector(path, model, config, weights="digest", cases=cases, options=options)
    assert report.passed and report.backend.startswith("openvino")
    session = open_session(path, OPENVINO, threads=1)
    assert session.info.custom_ops and has_custom_ops(path)
    reference = reference_session(model, session.info, cases[0].batch)
    assert check(session, reference, cases_of(config)).faults == []
    domains = [node.domain for node in onnx.load(path).graph.node]
    assert domains.count("bevstack") >= 5
    assert "GridSample" not in {node.op_type for node in onnx.load(path).graph.node}
    pytest.importorskip("onnxruntime")
    with pytest.raises(ValueError, match=r"must run in openvino.*add --backend openvino"):
        open_file(path)


def test_a_detector_for_tensorrt_has_no_node_of_the_whole_attention(
    library: Path, tmp_path: Path
) -> None:
    path, config = tmp_path / "m.onnx", single_frame_config()
    model, cases = build(config), cases_of(config)
    options = ExportOptions(cameras=CAMERAS, custom_ops=True, whole_attention=False)
    (report,) = export_detector(path, model, config, weights="digest", cases=cases, options=options)
    assert report.passed and report.backend.startswith("openvino")
    own = {node.op_type for node in onnx.load(path).graph.node if node.domain == "bevstack"}
    assert own == {"Dcnv3", "MsDeformAttn"}  # the plugins of ops/tensorrt


@pytest.mark.slow
def test_the_command_writes_a_file_for_tensorrt(
    library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from bevstack.models.build import save_model
    from bevstack.runtime.detector import build as build_detector
    from tests.small_world import CONFIG

    path, weights = tmp_path / "m.onnx", tmp_path / "w.safetensors"
    save_model(weights, build_detector(CONFIG).model, CONFIG)
    words = ["export", "--onnx", str(path), "--weights", str(weights)]
    assert main([*words, "--custom-ops", "tensorrt"]) == 0
    assert "boxes of 5 cases equal ours in openvino" in capsys.readouterr().out
    own = {node.op_type for node in onnx.load(path).graph.node if node.domain == "bevstack"}
    assert own == {"Dcnv3", "MsDeformAttn"}


@pytest.mark.slow
def test_a_stream_with_our_operators_equals_ours(library: Path, tmp_path: Path) -> None:
    path, config = tmp_path / "m.onnx", streaming_config()
    model, cases = build(config), cases_of(config)
    options = ExportOptions(stream=True, cameras=CAMERAS, custom_ops=True)
    (report,) = export_detector(path, model, config, weights="digest", cases=cases, options=options)
    assert report.passed and sum(case.boxes for case in report.cases) > 20


@pytest.mark.slow
def test_the_packaged_weights_are_exported_with_our_operators(
    library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.onnx"
    options = ("--weights", "tiny_cpu_t4")
    assert main(["export", "--onnx", str(path), *options, "--stream", "--custom-ops"]) == 0
    printed = capsys.readouterr().out
    assert str(library) in printed and "boxes of 5 cases equal ours in openvino" in printed
    assert main(["export", "--verify", str(path), *options, "--backend", OPENVINO]) == 0


def test_a_standard_file_has_no_mark(tmp_path: Path) -> None:
    path = tmp_path / "plain.onnx"
    module = nn.Linear(3, 2)
    inputs = {"x": np.zeros((1, 3), np.float32)}
    write_onnx(path, module, inputs, output_names=("y",), metadata={"bevstack.name": "x"})
    assert not has_custom_ops(path)
    (tmp_path / "empty.onnx").touch()
    assert not has_custom_ops(tmp_path / "empty.onnx")
    for place in (0, 5, (1 << 20) - 7, 1 << 20, (1 << 21) - 1):  # also across blocks of reading
        path.write_bytes(b"x" * place + CUSTOM_OPS.encode() + b"y")
        assert has_custom_ops(path)


def test_a_library_is_built_once_and_again_if_it_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bevstack._ops_sources import build_openvino

    built = []

    def build_fake(into: Path, work: Path, package: Path) -> None:
        built.append(package)
        into.write_bytes(b"library")

    monkeypatch.setattr(build_openvino, "build", build_fake)
    path = extension_library(tmp_path, "1.2", cache=tmp_path / "cache")
    assert extension_library(tmp_path, "1.2", cache=tmp_path / "cache") == path
    assert len(built) == 1
    path.write_bytes(b"another")
    extension_library(tmp_path, "1.2", cache=tmp_path / "cache")
    assert len(built) == 2 and path.read_bytes() == b"library"
    path.chmod(0o777)
    extension_library(tmp_path, "1.2", cache=tmp_path / "cache")
    assert len(built) == 3 and path.stat().st_mode & 0o022 == 0
    assert extension_library(tmp_path, "1.3", cache=tmp_path / "cache") != path


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        ("no-such-compiler", r"no C\+\+ compiler is found \(no-such-compiler\): apt-get install"),
        ("false", "the compiler reports: "),
    ],
)
def test_a_compiler_that_is_missing_or_fails_is_named(
    compiler: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", compiler)
    package = Path(openvino.__file__).parent
    with pytest.raises(ValueError, match=f"must be buildable; got: {reason}"):
        extension_library(package, "1.2", cache=tmp_path)
    assert not list(tmp_path.rglob("*.so"))


def test_a_package_without_headers_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no C\+\+ headers: pip install openvino"):
        extension_library(tmp_path / "openvino", "1.2", cache=tmp_path)
