"""Builds `bevstack._C` from `ops/` for the torch that is installed; metadata is in pyproject.toml.

The extension is optional: every operator has a reference in Python. Where it cannot be compiled the
reason is told on stderr and kept in the package for `bevstack doctor`. `ops/build.py` compiles, and
says which environment variables it reads.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
BUILDING = {"bdist_wheel", "build", "build_ext", "develop", "editable_wheel", "install"}
# Sources, configurations and weights travel in the package: an installed one needs no checkout.
MAPPED = {
    "bevstack.configs": "configs",
    "bevstack.weights": "weights",
    "bevstack._ops_sources": "ops",
}


def load_builder() -> ModuleType:
    """The module ops/build.py, which no path for imports leads to here."""
    name = "bevstack_ops_build"
    spec = importlib.util.spec_from_file_location(name, ROOT / "ops" / "build.py")
    assert spec is not None and spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)  # dataclasses look there
    spec.loader.exec_module(module)
    return module


builder = load_builder()


def tell(lines: list[str]) -> None:
    """Tells on stderr what was not built, and raises where it was required."""
    if lines:
        print("\n".join(f"bevstack: {line}" for line in lines), file=sys.stderr, flush=True)
    if lines and builder.wish() == "require":
        raise SystemExit("bevstack: error: BEVSTACK_BUILD_OPS=require is set")


class BuildKernels(build_ext):
    """Has ops/build.py compile the extension; a failure leaves the package without it."""

    def build_extension(self, extension: Extension) -> None:
        """Compiles into the folder of the build, which is later packed or copied."""
        target = Path(self.get_ext_fullpath(extension.name))
        target.unlink(missing_ok=True)
        work = Path(self.get_finalized_command("build").build_base)
        record = builder.build(target.parent, work.resolve() / "ops")
        record.write(target.parent)
        tell(record.lines())

    def copy_extensions_to_source(self) -> None:
        """Takes the record along; an extension of before is not left behind a failed build."""
        package, built = (
            ROOT / "bevstack",
            Path(self.build_lib, self.get_ext_filename("bevstack._C")),
        )
        if not built.is_file():
            (package / built.name).unlink(missing_ok=True)
        super().copy_extensions_to_source()
        self.copy_file(str(built.parent / builder.RECORD_NAME), str(package))


class KeepReason(build_py):
    """Writes beside the modules why there is no extension."""

    def run(self) -> None:
        """Leaves an extension that an editable installation has from before as it is."""
        super().run()
        in_place = self.editable_mode
        folder = ROOT / "bevstack" if in_place else Path(self.build_lib) / "bevstack"
        if not (in_place and [f for f in folder.glob("_C.*") if f.suffix != ".json"]):
            builder.skip_record().write(folder)


def extension_arguments() -> dict[str, object]:
    """What setup() is told about the extension; without one the wheel fits every machine."""
    if not BUILDING.intersection(sys.argv):
        return {}
    skipped = builder.skip_record()
    if skipped is None:
        extension = Extension("bevstack._C", sources=[], optional=True)
        return {"ext_modules": [extension], "cmdclass": {"build_ext": BuildKernels}}
    tell(skipped.lines())
    return {"cmdclass": {"build_py": KeepReason}}


if __name__ == "__main__":
    folders = {p.parent.relative_to(ROOT / "ops") for p in (ROOT / "ops").glob("*/*.h")}
    parts = [".".join(("bevstack._ops_sources", *folder.parts)) for folder in sorted(folders)]
    setup(
        packages=[*find_packages(include=["bevstack", "bevstack.*"]), *MAPPED, *parts],
        package_dir=MAPPED,
        package_data={
            "bevstack": ["py.typed"],
            "": ["*.json", "*.safetensors", *builder.SOURCE_KINDS],
        },
        exclude_package_data={"bevstack": [builder.RECORD_NAME]},  # of an earlier build in place
        **extension_arguments(),
    )
