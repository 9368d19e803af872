"""Benchmark of InternImage classifiers against the released model with its operator in torch.

    python -m benchmarks.run official --source InternImage/classification --json FILE

The released source stays outside this project; the folder is that of a checkout of
OpenGVLab/InternImage. Its model runs as released, with ``DCNv3_pytorch``: four modules that it
imports for training and for its compiled operator are replaced by empty ones. Both models have the
same weights and images, and the benchmark stops if their outputs differ. All sides run alternately
in one process.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timing import load, machine, time_runs
from bevstack.config.internimage import InternImageConfig, classification_config
from bevstack.interop.internimage_names import official_to_ours
from bevstack.models.classification.internimage_heads import InternImageClassifier
from bevstack.runtime.precision import BFLOAT16, FLOAT32, cast_weights, computing_in

SUMMARY = "InternImage classifiers against the released model with its operator in torch"
CASES = ("internimage_t:224", "internimage_s:224", "internimage_b:224", "internimage_xl:384")
# Of the largest logit: float32 sums in another order, through up to 39 blocks
TOLERANCE = 1e-3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options: source of the released model, cases, threads and duration."""
    parser.add_argument(
        "--source",
        type=Path,
        required=True,
        help="folder `classification` of a checkout of OpenGVLab/InternImage",
    )
    parser.add_argument(
        "--cases", default=",".join(CASES), help=f"NAME:PIXELS, ... (default {','.join(CASES)})"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="duration of each case (default 20)"
    )


@contextmanager
def released_source(folder: Path) -> Iterator[ModuleType]:
    """Import the released module of the model from its folder.

    Raises:
        FileNotFoundError: The folder does not hold the source.
    """
    if not (folder / "models" / "intern_image.py").is_file():
        raise FileNotFoundError(
            f"--source must be the folder classification of OpenGVLab/InternImage; got {folder}"
        )
    drop_path = {"DropPath": lambda rate: nn.Identity(), "trunc_normal_": nn.init.trunc_normal_}
    distribution = SimpleNamespace(version="1.1")
    stand_ins = {
        "DCNv3": {},
        "pkg_resources": {"get_distribution": lambda name: distribution},
        "timm": {},
        "timm.models": {},
        "timm.models.layers": drop_path,
    }
    modules = dict(sys.modules)
    for name, content in stand_ins.items():
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__dict__.update(content)
    sys.path[:0] = [str(folder), str(folder / "models")]
    try:
        yield importlib.import_module("intern_image")
    finally:
        del sys.path[:2]
        for name in set(sys.modules) - set(modules):
            if name in stand_ins or name.split(".")[0] in ("ops_dcnv3", "intern_image"):
                del sys.modules[name]


def released_model(source: ModuleType, config: InternImageConfig) -> nn.Module:
    """Return the released classifier of a configuration, with random weights."""
    with contextlib.redirect_stdout(io.StringIO()):
        model: nn.Module = source.InternImage(
            core_op="DCNv3_pytorch",
            channels=config.channels,
            depths=list(config.depths),
            groups=list(config.groups),
            mlp_ratio=config.mlp_ratio,
            offset_scale=config.offset_scale,
            layer_scale=config.layer_scale,
            post_norm=config.post_norm,
            num_classes=1000,
        )
    return model.eval()


def with_weights(released: nn.Module, config: InternImageConfig, precision: str) -> nn.Module:
    """Return our classifier with the weights of the released one."""
    model = InternImageClassifier(config)
    state = {official_to_ours(name): value for name, value in released.state_dict().items()}
    model.load_state_dict(state)  # type: ignore[arg-type]  # an unknown name is refused here
    cast_weights(model, precision)
    return model.eval()


def randomise(model: nn.Module) -> None:
    """Draw all parameters: the released start has layer scales and offsets of almost zero."""
    generator = torch.Generator().manual_seed(0)
    for name, value in model.named_parameters():
        deviation = 0.02 if value.dim() > 1 else 0.1
        noise = deviation * torch.randn(value.shape, generator=generator)
        value.data = 1 + noise if value.dim() == 1 and name.endswith("weight") else noise
        if name.endswith(("gamma1", "gamma2")):
            value.data += 0.5


def timed_call(model: nn.Module, image: Tensor, precision: str) -> Callable[[], Tensor]:
    """Return a function that runs a model in a precision."""

    def call() -> Tensor:
        with torch.inference_mode(), computing_in(precision, image.device):
            logits: Tensor = model(image)
        return logits

    return call


def measure(source: ModuleType, name: str, size: int, seconds: float, wall: bool) -> dict[str, Any]:
    """Time a classifier and the released one alternately.

    Raises:
        RuntimeError: Their outputs differ by more than the tolerance.
    """
    config = classification_config(name)
    released = released_model(source, config)
    randomise(released)
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    calls = {
        "released": timed_call(released, image, FLOAT32),
        **{
            precision: timed_call(with_weights(released, config, precision), image, precision)
            for precision in (FLOAT32, BFLOAT16)
        },
    }
    clock = time.perf_counter if wall else time.process_time
    first, outputs = {}, {}
    for side, call in calls.items():
        start = clock()
        outputs[side] = call().float()
        first[side] = round((clock() - start) * 1e3, 1)
    scale = outputs["released"].abs().max()
    errors = {s: float((outputs[s] - outputs["released"]).abs().max() / scale) for s in calls}
    if errors[FLOAT32] > TOLERANCE:
        raise RuntimeError(
            f"logits of {name} must equal the released model's to {TOLERANCE} of the largest; got "
            f"{errors[FLOAT32]:.2g}"
        )
    timings = dict(zip(calls, time_runs(list(calls.values()), seconds, wall), strict=True))
    ours = [side for side in calls if side != "released"]
    return {
        "case": f"{name} {size}",
        "first_ms": first,
        "later_ms": {side: round(timing.ms, 1) for side, timing in timings.items()},
        "speedup": {s: round(timings["released"].ms / timings[s].ms, 2) for s in ours},
        "relative_difference": {s: float(f"{errors[s]:.2g}") for s in ours},
    }


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all cases, print each when it is ready, and return the figures."""
    torch.set_num_threads(arguments.threads)
    wall = arguments.threads > 1
    rows = []
    with released_source(arguments.source) as source:
        for case in arguments.cases.split(","):
            name, _, size = case.partition(":")
            row = measure(source, name, int(size), arguments.seconds, wall)
            print(f"{row['case']:22} later {row['later_ms']} ms, speedup {row['speedup']}")
            rows.append(row)
    return {
        **machine(),
        **load(),
        "threads": arguments.threads,
        "clock": "wall" if wall else "process CPU time",
        "rows": rows,
    }
