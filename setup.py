"""Build of `bevstack._C` from `ops/` for the installed torch; metadata is in pyproject.toml.

The extension is optional, because every operator has a reference in Python. If it cannot be
compiled, the reason is printed to stderr and stored in the package for `bevstack doctor`.
`ops/build.py` compiles the extension and lists the environment variables that it reads.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from pathlib import Path
from types import ModuleType

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
# An editable installation is meant to take the package from this folder, which setuptools warns of.
warnings.filterwarnings("ignore", message="Editable installation")
BUILDING = {"bdist_wheel", "build", "build_ext", "develop", "editable_wheel", "install"}
# The package holds sources, configurations and weights, so an installation needs no checkout.
MAPPED = {
    "bevstack.configs": "configs",
    "bevstack.configs.detection2d": "configs/detection2d",
    "bevstack.configs.segmentation": "configs/segmentation",
    "bevstack.weights": "weights",
    "bevstack._ops_sources": "ops",
}


def load_builder() -> ModuleType:
    """Load ops/build.py as a module; it is not on the import path here."""
    name = "bevstack_ops_build"
    spec = importlib.util.spec_from_file_location(name, ROOT / "ops" / "build.py")
    assert spec is not None and spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)  # needed by dataclasses
    spec.loader.exec_module(module)
    return module


builder = load_builder()


def report(lines: list[str]) -> None:
    """Print to stderr the kernels that were not built.

    Raises:
        SystemExit: there are such kernels, and BEVSTACK_BUILD_OPS=require is set.
    """
    if lines:
        print("\n".join(f"bevstack: {line}" for line in lines), file=sys.stderr, flush=True)
    if lines and builder.build_mode() == "require":
        raise SystemExit("bevstack: error: BEVSTACK_BUILD_OPS=require is set")


class BuildKernels(build_ext):
    """The build_ext command with ops/build.py; after a failure the package has no extension."""

    def build_extension(self, extension: Extension) -> None:
        """Compile into the build folder, which setuptools packs or copies later."""
        target = Path(self.get_ext_fullpath(extension.name))
        target.unlink(missing_ok=True)
        work = Path(self.get_finalized_command("build").build_base)
        record = builder.build(target.parent, work.resolve() / "ops")
        record.write(target.parent)
        report(record.lines())

    def copy_extensions_to_source(self) -> None:
        """Copy extension and record in place; after a failed build, remove an older extension."""
        package, built = (
            ROOT / "bevstack",
            Path(self.build_lib, self.get_ext_filename("bevstack._C")),
        )
        if not built.is_file():
            (package / built.name).unlink(missing_ok=True)
        super().copy_extensions_to_source()
        self.copy_file(str(built.parent / builder.RECORD_NAME), str(package))


class StoreReason(build_py):
    """The build_py command for a skipped extension: it stores the reason in the package."""

    def run(self) -> None:
        """Write the record, unless an editable installation has an older extension."""
        super().run()
        in_place = self.editable_mode
        folder = ROOT / "bevstack" if in_place else Path(self.build_lib) / "bevstack"
        if not (in_place and [f for f in folder.glob("_C.*") if f.suffix != ".json"]):
            builder.skip_record().write(folder)


def extension_arguments() -> dict[str, object]:
    """Return the arguments of setup() for the extension; without it, a wheel fits any machine."""
    if not BUILDING.intersection(sys.argv):
        return {}
    skipped = builder.skip_record()
    if skipped is None:
        extension = Extension("bevstack._C", sources=[], optional=True)
        return {"ext_modules": [extension], "cmdclass": {"build_ext": BuildKernels}}
    report(skipped.lines())
    return {"cmdclass": {"build_py": StoreReason}}


if __name__ == "__main__":
    folders = {p.parent.relative_to(ROOT / "ops") for p in (ROOT / "ops").glob("*/*.h")}
    parts = [".".join(("bevstack._ops_sources", *folder.parts)) for folder in sorted(folders)]
    setup(
        packages=[*find_packages(include=["bevstack", "bevstack.*"]), *MAPPED, *parts],
        package_dir=MAPPED,
        package_data={
            "bevstack": ["py.typed"],
            "": ["*.json", "*.safetensors", "*.rviz", "*.yaml", *builder.SOURCE_KINDS],
        },
        exclude_package_data={"bevstack": [builder.RECORD_NAME]},  # from an older build in place
        **extension_arguments(),
    )
