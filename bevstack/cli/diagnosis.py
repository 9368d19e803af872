"""What `bevstack doctor` finds: versions, kernels, threads, GPU, and what is missing."""

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

from bevstack import __version__

# Distribution -> module to import, where the two differ.
MODULES = {
    "nuscenes-devkit": "nuscenes",
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
}
EXTRAS = {
    "nuscenes": ("nuscenes-devkit", "the scenes of train, val and test; tests compare with it"),
    "view": ("viser", "the live view in a browser"),
    "ros": ("rosbags", "ROS messages and bags"),
    "export": ("onnx", "exporting models"),
    "mmdet3d": ("mmdet3d", "the mmdetection3d adapter"),
}


@dataclass(frozen=True)
class Package:
    """One distribution: the installed version, or None, and why it is of no use, if so."""

    name: str
    version: str | None
    purpose: str
    problem: str | None = None


@dataclass(frozen=True)
class Finding:
    """Something that is missing or wrong, and the command that mends it."""

    problem: str
    remedy: str
    fatal: bool  # nothing works without it


@dataclass(frozen=True)
class Machine:
    """What the work runs on."""

    system: str
    python: str
    processors: int  # this process may use
    torch_threads: int | None  # None without torch
    omp_num_threads: str | None  # the environment variable
    compiler: str | None
    cuda_of_torch: str | None  # version torch was built for
    gpus: tuple[str, ...]


@dataclass(frozen=True)
class Kernel:
    """Which kernel serves an operator on a device."""

    operator: str
    device: str
    kernel: str  # "native", with its instruction set, or "reference", with the reason


@dataclass(frozen=True)
class Diagnosis:
    """The whole report."""

    bevstack: str
    machine: Machine
    required: tuple[Package, ...]
    optional: tuple[Package, ...]
    kernels: tuple[Kernel, ...]
    cuda_kernels: str  # a sentence on what was compiled for GPUs
    findings: tuple[Finding, ...]

    @property
    def broken(self) -> bool:
        """Whether something that everything needs is missing."""
        return any(finding.fatal for finding in self.findings)

    def lines(self) -> list[str]:
        """The report as text."""
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
            rows += [f"  mend with: {finding.remedy}"]
        return rows if self.findings else [*rows, "nothing is missing"]


def diagnose() -> Diagnosis:
    """Looks at the installed packages, the machine and the operators."""
    required = tuple(_inspect(*requirement) for requirement in _requirements())
    optional = tuple(
        Package(name, _version(name), f"[{extra}]: {purpose}")
        for extra, (name, purpose) in EXTRAS.items()
    )
    machine = _inspect_machine()
    kernels, cuda_kernels, kernel_findings = _inspect_kernels(machine)
    findings = (
        *(_missing(package) for package in required if package.problem is not None),
        *kernel_findings,
        *_package_findings(optional),
        *_machine_findings(machine),
    )
    return Diagnosis(__version__, machine, required, optional, kernels, cuda_kernels, findings)


def _requirements() -> list[tuple[str, str]]:
    """Names and lowest versions of what bevstack cannot do without, from its metadata."""
    pattern = re.compile(r"^([A-Za-z0-9._-]+)\s*>=\s*([0-9.]+)$")
    try:
        stated = importlib.metadata.requires("bevstack") or []
    except importlib.metadata.PackageNotFoundError:
        return []  # run from a folder of sources; said by _package_findings
    return [match.groups() for match in map(pattern.match, stated) if match is not None]  # type: ignore[misc]


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


def _missing(package: Package) -> Finding:
    remedy = f"pip install --upgrade {package.name}"
    return Finding(f"{package.name} {package.problem}", remedy, fatal=True)


def _inspect_machine() -> Machine:
    try:
        import torch
    except (ImportError, OSError):
        torch = None  # type: ignore[assignment]
    gpus = torch is not None and torch.cuda.is_available()
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
        if gpus
        else (),
    )


def _inspect_kernels(machine: Machine) -> tuple[tuple[Kernel, ...], str, tuple[Finding, ...]]:
    if machine.torch_threads is None:
        return (), "cuda: nothing can be said without torch", ()
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
    state = ops.native_state()  # where nothing is loaded, the rows of the CPU have said why
    left_out = state.record.cuda_problem if state.problem is None and state.record else ""
    reason = f": {left_out}" if compiled == "not compiled" and left_out else ""
    gpu = "" if machine.gpus else "torch can use no GPU; "
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
        sentence = f"all operators run on their Python reference, right but slower: {problem}{log}"
        yield Finding(sentence, remedy, fatal=False)
    elif machine.gpus and not ops.has_native_kernel("dcnv3", "cuda"):
        sentence = f"the operators run on their Python reference on the GPU: {log}"
        remedy = f"install the CUDA toolkit {machine.cuda_of_torch} with its nvcc, then {remedy}"
        yield Finding(sentence, remedy, fatal=False)
    elif state.record is not None and ops.source_digest() not in (state.record.sources, None):
        yield Finding(
            "bevstack._C was compiled from other sources than are installed", remedy, False
        )


def _package_findings(optional: tuple[Package, ...]) -> list[Finding]:
    findings = []
    if _version("bevstack") is None:
        problem = "bevstack runs from a folder of sources and is not installed"
        findings.append(Finding(problem, "make install", fatal=False))
    if next(p for p in optional if p.name == "nuscenes-devkit").version is None:
        problem = "the splits train, val and test cannot be named without nuscenes-devkit"
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
                "there is an NVIDIA GPU that torch cannot use"
                f" (built for CUDA {machine.cuda_of_torch or '-'})",
                "install a torch built for the GPU's driver, see https://pytorch.org/get-started",
                fatal=False,
            )
        )
    return findings


def _has_nvidia_gpu() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
