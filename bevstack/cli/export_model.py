"""The parts of ``bevstack export`` that write and verify models."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bevstack.cli.errors import EXIT_USAGE
from bevstack.cli.export_classifier import (
    add_classifier_arguments,
    export_classifier_file,
    verify_classifier_file,
)
from bevstack.cli.export_int8 import add_int8_arguments, check_int8, run_int8
from bevstack.cli.export_pictures import (
    export_picture_file,
    exports_pictures,
    verify_picture_file,
)
from bevstack.cli.export_scene import NUM_FRAMES, scene_dataset

if TYPE_CHECKING:
    from bevstack.datasets.nuscenes import NuScenesDataset
    from bevstack.export.onnx.check import Case, CheckReport
    from bevstack.runtime.detector import Detector

# Of the results' formats, which a model does not take.
RESULT_OPTIONS = (
    "format",
    "results",
    "cues",
    "scene",
    "distro",
    "autoware_version",
    "light_ids",
    "rear_axle_height",
    "out",
)


# Of a new file, which --verify and --int8 do not take.
ONNX_OPTIONS = ("stream", "opset", "cameras", "custom_ops")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments for models."""
    models = parser.add_argument_group("models (needs bevstack[export])")
    models.add_argument(
        "--onnx",
        type=Path,
        metavar="FILE",
        help="write the model of --weights, a --classifier, or with --config a 2D detector or a "
        "segmenter with random weights, and check it",
    )
    models.add_argument(
        "--verify", type=Path, metavar="FILE", help="compare an exported model with --weights"
    )
    models.add_argument(
        "--backend",
        metavar="NAME",
        help="runtime of --verify: onnxruntime (default), openvino or tensorrt",
    )
    models.add_argument(
        "--stream",
        action="store_true",
        help="export a step of streams: memory goes in and comes out",
    )
    models.add_argument(
        "--custom-ops",
        nargs="?",
        const="openvino",
        choices=("openvino", "tensorrt"),
        help="write deformable operators as nodes that run our own kernels, in OpenVINO (default) "
        "or TensorRT; needs a C++ compiler",
    )
    models.add_argument(
        "--opset", type=int, metavar="N", help="version of ONNX's operators (default and only: 20)"
    )
    models.add_argument(
        "--cameras", type=int, metavar="N", help="most cameras of a rig (default: 6)"
    )
    models.add_argument(
        "--config", metavar="NAME", help="refuse --weights of another configuration"
    )
    add_classifier_arguments(models)
    add_int8_arguments(models)


def wants_model(args: argparse.Namespace) -> bool:
    """Return True if a model is exported or verified, not results."""
    return args.onnx is not None or args.verify is not None or args.int8 is not None


def run_model(args: argparse.Namespace) -> int:
    """Export or verify a model and print its report.

    Raises:
        FileNotFoundError: the weights, the file or the data set does not exist.
        ModuleNotFoundError: a package of the extra "export" is not installed.
        OSError: a file cannot be written.
        ValueError: options that do not fit, or a file that differs from the model.
    """
    from bevstack.export.onnx.graph_info import OPSET, check_opset
    from bevstack.export.runtimes import (
        ONNXRUNTIME,
        OPENVINO,
        TENSORRT,
        TENSORRT_HALF,
        check_backend,
        checking_backends,
        require_exporter,
    )

    _check(args)
    if args.int8 is not None:
        check_int8(args)
        require_exporter()
        return run_int8(args)
    check_opset(OPSET if args.opset is None else args.opset, "--opset")
    check_backend(args.backend or ONNXRUNTIME)
    if args.backend == TENSORRT_HALF:
        raise ValueError(
            f"--verify must compare float32; got {TENSORRT_HALF}: verify with --backend "
            f"{TENSORRT}, and score the boxes of predict --backend {TENSORRT_HALF}"
        )
    if args.onnx is not None:
        require_exporter()
        whole = args.custom_ops == OPENVINO
        if args.custom_ops and OPENVINO in checking_backends(
            custom_ops=True, whole_attention=whole
        ):
            from bevstack.export.openvino_file import custom_operators_library

            print(f"library of our operators: {custom_operators_library()}", flush=True)
        if args.classifier is not None:
            return export_classifier_file(args)
        return export_picture_file(args) if exports_pictures(args) else _export(args)
    return _verify(args)


def _check(args: argparse.Namespace) -> None:
    given = [name for name in ("onnx", "verify", "int8") if getattr(args, name) is not None]
    if len(given) > 1:
        raise ValueError(
            f"one of --onnx, --verify and --int8 must be given; got --{' and --'.join(given)}"
        )
    name = f"--{given[0]}"
    for option in RESULT_OPTIONS:
        if getattr(args, option) is not None:
            raise ValueError(
                f"--{option.replace('_', '-')} must be left out with {name}, which is about "
                "models; got it"
            )
    for option in ("track", "hazards"):
        if getattr(args, option):
            raise ValueError(f"--{option} must be left out with {name}; got it")
    if args.int8 is not None:
        return
    for option in ("model", "split", "frames"):
        if getattr(args, option) is not None:
            raise ValueError(f"--{option} must be given with --int8; got {name}")
    random = args.classifier is not None or (args.config is not None and exports_pictures(args))
    if args.weights is None and (args.verify is not None or not random):
        raise ValueError(f"--weights must be given with {name}; got none")
    if (args.nuscenes is None) != (args.version is None):
        raise ValueError("--nuscenes and --version must be given together; got one")
    if args.verify is not None:
        for option in (*ONNX_OPTIONS, "classifier", "size", "batch"):
            if getattr(args, option):
                raise ValueError(
                    f"--{option.replace('_', '-')} must be given with --onnx; got --verify"
                )
        return
    _check_kind(args)
    if args.backend is not None:
        raise ValueError(
            "--backend must be given with --verify; got --onnx, which is checked in all that are "
            "installed"
        )


def _check_kind(args: argparse.Namespace) -> None:
    """Check the options that only detectors or only classifiers take."""
    if args.batch is not None and args.batch < 1:
        raise ValueError(f"--batch must be at least 1; got {args.batch}")
    pictures = args.classifier is None and exports_pictures(args)
    if args.classifier is None and args.size is not None and not pictures:
        raise ValueError("--size must be given with a model of single pictures; got a 3D one")
    for option in ("stream", "cameras", "batch") if pictures else ():
        if getattr(args, option):
            raise ValueError(
                f"--{option} must be left out for a model of single pictures, which takes one at "
                "a time; got it"
            )
    for option in ("stream", "cameras", "config"):
        if args.classifier is not None and getattr(args, option):
            raise ValueError(f"--{option} must be left out with --classifier; got both")


def _export(args: argparse.Namespace) -> int:
    from bevstack.export.onnx.detector import ExportOptions, check_exportable, export_detector
    from bevstack.export.runtimes import TENSORRT
    from bevstack.runtime.predict import check_writable

    detector = _load(args)
    options = ExportOptions(
        stream=args.stream,
        cameras=args.cameras or 6,
        batch=args.batch or 1,
        custom_ops=args.custom_ops is not None,
        whole_attention=args.custom_ops != TENSORRT,
    )
    check_exportable(detector.config, options)
    check_writable(args.onnx)
    with scene_dataset(args, detector.config) as dataset:
        reports = export_detector(
            args.onnx,
            detector.model,
            detector.config,
            weights=detector.fingerprint(),
            cases=_cases(detector, dataset, options.batch),
            options=options,
        )
    size = args.onnx.stat().st_size / 1e6
    print(f"{args.onnx}: {size:.1f} MB")
    return _print(reports, args.onnx)


def _verify(args: argparse.Namespace) -> int:
    from bevstack.export.onnx.classifier_info import is_classifier
    from bevstack.export.onnx.detector import reference_session, verify
    from bevstack.export.onnx.picture_info import is_picture_model
    from bevstack.export.runtimes import ONNXRUNTIME, FileSession, open_file

    file = open_file(args.verify, args.backend or ONNXRUNTIME)
    if is_classifier(file.metadata):
        return verify_classifier_file(args, file)
    if is_picture_model(file.metadata):
        return verify_picture_file(args, file)
    detector = _load(args)
    session = FileSession(file, args.verify)
    if session.info.weights != detector.fingerprint():
        raise ValueError(
            f"--weights must be those that {args.verify} was exported from, digest "
            f"{session.info.weights[:12]}; got {args.weights}, digest "
            f"{detector.fingerprint()[:12]}"
        )
    with scene_dataset(args, detector.config) as dataset:
        cases = _cases(detector, dataset, session.info.batch)
        reference = reference_session(detector.model, session.info, cases[0].batch)
        reports = verify([session], reference, cases, args.verify)
    return _print(reports, args.verify)


def _load(args: argparse.Namespace) -> Detector:
    from bevstack.config import load_config
    from bevstack.runtime.loading import load

    expected = None if args.config is None else load_config(args.config)
    return load(args.weights, expected=expected, calibrated=False)


def _cases(detector: Detector, dataset: NuScenesDataset, batch: int) -> list[Case]:
    """Return three frames of the first scene, a lost camera and a far rig.

    Further samples of a batch are one frame ahead each, and start again after the last.
    """
    from bevstack.datasets.collate import stack_clips
    from bevstack.export.onnx.check import Case, far_rig, without_camera

    scene, indices = next(iter(dataset.scene_indices().items()))
    prepared = [
        detector.prepare(dataset.frame(index, images_for=detector.config))
        for index in indices[:NUM_FRAMES]
    ]
    batches = [
        stack_clips([prepared[(number + row) % len(prepared)] for row in range(batch)])
        for number in range(len(prepared))
    ]
    cases = [
        Case(f"{scene}, frame {number}", made, restart=number == 0)
        for number, made in enumerate(batches)
    ]
    return [
        *cases,
        Case("a lost camera", without_camera(batches[-1], 1)),
        Case("a far rig", far_rig(batches[0]), restart=True),
    ]


def _print(reports: list[CheckReport], path: Path) -> int:
    for report in reports:
        boxes = sum(case.boxes for case in report.cases)
        largest: dict[str, float] = {}
        for case in report.cases:
            for name, value in case.largest.items():
                largest[name] = max(largest.get(name, 0.0), value)
        shown = ", ".join(f"{name} {value:.1e}" for name, value in largest.items())
        print(f"{boxes} boxes of {len(report.cases)} cases equal ours in {report.backend}: {shown}")
    print(f"report: {path.name}.check.json beside it")
    return 0 if all(report.passed for report in reports) else EXIT_USAGE
