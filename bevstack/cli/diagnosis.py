"""Diagnosis of an installation, for `bevstack doctor`: versions, kernels, threads, GPU, faults."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from bevstack import __version__

# Distributions whose module has another name: distribution -> module.
MODULES = {
    "nuscenes-devkit": "nuscenes",
    "open3d-cpu": "open3d",
    "rerun-sdk": "rerun",
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "PyYAML": "yaml",
}
# Extra of bevstack -> its main distribution and its purpose.
EXTRAS = {
    "nuscenes": ("nuscenes-devkit", "splits train, val and test; reference in tests"),
    "tensorboard": ("tensorboard", "logs of a training for TensorBoard"),
    "maps": ("lanelet2", "traffic lights and lanes of a Lanelet2 map"),
    "ros": ("rosbags", "bags of ROS: the node, drives, Autoware, vision_msgs"),
    "export": ("osi-python", "export to ASAM OSI and ONNX"),
    "coco": ("pycocotools", "masks of COCO files and scores of objects in pictures"),
    "openvino": ("openvino", "exported models in OpenVINO"),
    "tensorrt": ("tensorrt", "exported models in TensorRT, on a GPU"),
    "view": ("viser", "drives in the browser"),
    "open3d": ("open3d-cpu", "pictures and windows of drives with Open3D"),
    "rerun": ("rerun-sdk", "recordings of drives for rerun's viewer"),
}


# Packages of an installation of ROS that no extra brings: distribution -> purpose.
OF_ROS = {
    "rclpy": "installation of ROS 2: the node with --rclpy",
    "rospy": "installation of ROS 1: the node with --rospy",
}


@dataclass(frozen=True)
class Package:
    """State of one distribution."""

    name: str
    version: str | None  # None: not installed
    purpose: str
    problem: str | None = None  # reason why it cannot be used; None: it can


@dataclass(frozen=True)
class Finding:
    """Something missing or wrong, and the remedy."""

    problem: str
    remedy: str  # command to run
    fatal: bool  # no verb works without it


@dataclass(frozen=True)
class Machine:
    """Hardware, operating system and compilers."""

    system: str
    python: str
    processors: int  # that this process may use
    torch_threads: int | None  # None without torch
    omp_num_threads: str | None  # the environment variable
    compiler: str | None
    cuda_of_torch: str | None  # CUDA version that torch was built for
    gpus: tuple[str, ...]


@dataclass(frozen=True)
class Kernel:
    """Kernel of an operator on a device."""

    operator: str
    device: str
    kernel: str  # "native" and the instruction set, or "reference" and the reason


@dataclass(frozen=True)
class Diagnosis:
    """Report on the installation."""

    bevstack: str
    machine: Machine
    required: tuple[Package, ...]
    optional: tuple[Package, ...]
    kernels: tuple[Kernel, ...]
    cuda_kernels: str  # sentence on the kernels for GPUs
    findings: tuple[Finding, ...]

    @property
    def broken(self) -> bool:
        """Return True if a requirement of all verbs is missing."""
        return any(finding.fatal for finding in self.findings)

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        machine = self.machine
        gpus = ", ".join(machine.gpus) or "none that torch can use"
        rows = [
            f"bevstack {self.bevstack} on Python {machine.python}, {machine.system}",
            f"threads   {machine.torch_threads} in torch, {machine.processors} processors, "
            f"OMP_NUM_THREADS {machine.omp_num_threads or 'not set'}",
            f"GPU       {gpus} (torch built for CUDA {machine.cuda_of_torch or '-'})",
            f"compiler  {machine.compiler or 'none'}",
            "\npackages",
            *(f"  {p.name:24}{p.problem or p.version}" for p in self.required),
            "\noptional packages",
            *(f"  {p.name:24}{p.version or 'not installed':16}{p.purpose}" for p in self.optional),
            "\noperators",
            *(f"  {k.operator:24}{k.device:8}{k.kernel}" for k in self.kernels),
            f"  {self.cuda_kernels}",
            "",
        ]
        for finding in self.findings:
            rows += [f"{'MISSING' if finding.fatal else 'note'}: {finding.problem}"]
            rows += [f"  fix with: {finding.remedy}"]
        return rows if self.findings else [*rows, "no problems found"]


def diagnose() -> Diagnosis:
    """Inspect the installed packages, the machine and the operators."""
    required = tuple(_inspect(*requirement) for requirement in _requirements())
    optional = tuple(
        Package(name, _version(name), f"[{extra}]: {purpose}")
        for extra, (name, purpose) in EXTRAS.items()
    )
    optional += tuple(Package(name, _version(name), purpose) for name, purpose in OF_ROS.items())
    machine = _inspect_machine()
    kernels, cuda_kernels, kernel_findings = _inspect_kernels(machine)
    findings = (
        *(_requirement_finding(package) for package in required if package.problem is not None),
        *kernel_findings,
        *_package_findings(optional),
        *_machine_findings(machine),
    )
    return Diagnosis(__version__, machine, required, optional, kernels, cuda_kernels, findings)


def _requirements() -> list[tuple[str, str]]:
    """Return the names and lowest versions of the required packages, from bevstack's metadata."""
    pattern = re.compile(r"^([A-Za-z0-9._-]+)\s*>=\s*([0-9.]+)$")
    try:
        lines = importlib.metadata.requires("bevstack") or []
    except importlib.metadata.PackageNotFoundError:
        return []  # bevstack runs from a folder of sources; _package_findings reports it
    matches = [match for match in map(pattern.match, lines) if match is not None]
    return [(match[1], match[2]) for match in matches]


def _inspect(name: str, lowest: str) -> Package:
    version = _version(name)
    if version is None:
        return Package(name, None, "required", "is not installed")
    if _numbers(version) < _numbers(lowest):
        return Package(name, version, "required", f"must be {lowest} or newer; got {version}")
    try:
        importlib.import_module(MODULES.get(name, name))
    except (ImportError, OSError) as error:
        return Package(name, version, "required", f"{version} does not import ({error})")
    return Package(name, version, "required")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    release = re.match(r"[0-9.]+", version)
    return tuple(int(part) for part in release.group().strip(".").split(".")) if release else ()


def _requirement_finding(package: Package) -> Finding:
    remedy = f"pip install --upgrade {package.name}"
    return Finding(f"{package.name} {package.problem}", remedy, fatal=True)


def _import_torch() -> ModuleType | None:
    try:
        import torch
    except (ImportError, OSError):
        return None
    return torch


def _inspect_machine() -> Machine:
    torch = _import_torch()
    compiler = os.environ.get("CXX", "c++").split()[0]
    affinity = getattr(os, "sched_getaffinity", None)
    return Machine(
        system=platform.platform(),
        python=platform.python_version(),
        processors=len(affinity(0)) if affinity is not None else os.cpu_count() or 1,
        torch_threads=torch.get_num_threads() if torch is not None else None,
        omp_num_threads=os.environ.get("OMP_NUM_THREADS"),
        compiler=shutil.which(compiler),
        cuda_of_torch=torch.version.cuda if torch is not None else None,
        gpus=tuple(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        if torch is not None and torch.cuda.is_available()
        else (),
    )


def _inspect_kernels(machine: Machine) -> tuple[tuple[Kernel, ...], str, tuple[Finding, ...]]:
    if machine.torch_threads is None:
        return (), "cuda: unknown without torch", ()
    from bevstack import ops

    rows = ops.kernels()
    kernels = tuple(
        Kernel(
            row.operator,
            row.device,
            f"reference: {row.reason}" if row.reason else f"native {row.instruction_set}".strip(),
        )
        for row in rows
    )
    compiled = "compiled" if ops.has_native_kernel("dcnv3", "cuda") else "not compiled"
    state = ops.native_state()  # if nothing is loaded, the rows of the CPU already give the reason
    problem = state.record.cuda_problem if state.problem is None and state.record else ""
    reason = f": {problem}" if compiled == "not compiled" and problem else ""
    gpu = "" if machine.gpus else "torch cannot use a GPU; "
    return kernels, f"cuda: {gpu}kernels are {compiled}{reason}", tuple(_kernel_findings(machine))


def _kernel_findings(machine: Machine) -> Iterator[Finding]:
    from bevstack import ops

    state = ops.native_state()
    log = "".join(f"\n    {line}" for line in state.record.log) if state.record else ""
    remedy = ops.BUILD_COMMAND
    if machine.compiler is None:
        remedy = f"apt-get install g++ (or another C++ compiler), then {remedy}"
    if ops.native_problem() is not None:
        problem = ops.native_problem()
        sentence = f"all operators use the slower Python reference: {problem}{log}"
        yield Finding(sentence, remedy, fatal=False)
    elif machine.gpus and not ops.has_native_kernel("dcnv3", "cuda"):
        sentence = f"on the GPU, the operators use the slower Python reference: {log}"
        remedy = f"install the CUDA toolkit {machine.cuda_of_torch} with its nvcc, then {remedy}"
        yield Finding(sentence, remedy, fatal=False)
    elif state.record is not None and ops.source_digest() not in (state.record.sources, None):
        yield Finding(
            "bevstack._C was compiled from other sources than the installed ones", remedy, False
        )


def _package_findings(optional: tuple[Package, ...]) -> list[Finding]:
    findings = []
    if _version("bevstack") is None:
        problem = "bevstack runs from a folder of sources and is not installed"
        findings.append(Finding(problem, "make install", fatal=False))
    if next(p for p in optional if p.name == "nuscenes-devkit").version is None:
        problem = "the splits train, val and test are not available without nuscenes-devkit"
        remedy = "pip install 'bevstack[nuscenes]'"
        if sys.version_info >= (3, 13):
            remedy = f"use Python 3.12 or older (the devkit needs numpy 1), then {remedy}"
        findings.append(Finding(problem, remedy, fatal=False))
    if _version("opencv-python") is not None:
        problem = "opencv-python and opencv-python-headless overwrite each other's files"
        remedy = (
            "pip uninstall opencv-python, then "
            "pip install --force-reinstall --no-deps opencv-python-headless"
        )
        findings.append(Finding(problem, remedy, fatal=False))
    return findings


def _machine_findings(machine: Machine) -> list[Finding]:
    findings = []
    threads = machine.torch_threads
    if threads is not None and threads > machine.processors:
        findings.append(
            Finding(
                f"torch uses {threads} threads on {machine.processors} processors",
                f"export OMP_NUM_THREADS={machine.processors}",
                fatal=False,
            )
        )
    if threads is not None and not machine.gpus and _has_nvidia_gpu():
        findings.append(
            Finding(
                "torch cannot use the NVIDIA GPU of this machine"
                f" (built for CUDA {machine.cuda_of_torch or '-'})",
                "install a torch built for the GPU's driver, see https://pytorch.org/get-started",
                fatal=False,
            )
        )
    return findings


def _has_nvidia_gpu() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
