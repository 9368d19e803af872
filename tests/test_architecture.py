"""Rules of the architecture, checked in the sources: layers, length caps, forbidden constructs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sources import (
    CONFIG_FILES,
    NATIVE_FILES,
    OWN_FILES,
    PACKAGE_FILES,
    PROGRAM_FILES,
    ROOT,
    TEST_FILES,
    circles,
    expect_no_faults,
    functions_of,
    import_graph,
    imports_of,
    module_name,
    parse,
)

# The table of DESIGN, section 3: a package imports only from lower rows and from itself.
TABLE = (
    ("vocabulary", "shapes", "file_names", "files", "file_bytes", "safetensors_metadata", "times"),
    ("ops", "geometry", "json_files"),
    ("config", "types", "calibration_file"),
    ("tables", "render", "tracking", "language", "uncertainty"),
    ("datasets", "models", "evaluation", "synthetic"),
    ("losses", "costs"),
    ("tasks", "planning"),
    ("export",),
    ("interop", "training", "runtime"),
    ("experiments", "fleet", "viewer"),
    ("cli",),
    ("__main__",),
)
ROWS = {name: row for row, names in enumerate(TABLE) for name in names}
# Compiled operators may be imported by bevstack.ops alone. Their sources, the folder ops/, are
# installed as bevstack._ops_sources.
COMPILED = {"_C": "ops", "_ops_sources": "ops"}
# Names of bevstack/__init__.py that every module may import, although it is above all rows.
OPEN_TO_ALL = {"__version__"}

PICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib"}

MAX_FILE_LINES = 350
MAX_WIRING_LINES = 150  # of a file that connects a task to the training
MAX_NATIVE_LINES = 600
MAX_FUNCTION_LINES = 60
MAX_TYPE_IGNORES = 20
MAX_CONSTRUCTOR_ARGUMENTS = 8
MAX_POSITIONAL_ARGUMENTS = 2


def part_of(module: str) -> str | None:
    """Return the package of the table that holds a dotted module; None for bevstack itself."""
    parts = module.split(".")
    return COMPILED.get(parts[1], parts[1]) if len(parts) > 1 else None


def layer_faults(source: str, module: str, is_package: bool = False) -> list[str]:
    """Return the imports of one module that the table of layers forbids."""
    own = part_of(module)
    if own is None:
        return []  # bevstack/__init__.py is above all rows and exports their names
    faults = []
    for line, name in imports_of(ast.parse(source), module, is_package):
        if name.split(".")[0] != "bevstack":
            continue
        imported = part_of(name)
        if imported in OPEN_TO_ALL or imported == own:
            continue
        if imported is None or imported not in ROWS or ROWS[imported] >= ROWS[own]:
            faults.append(f"line {line}: {module} (row {ROWS[own]}) imports {name}")
    return faults


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function's body without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def constructor_faults(tree: ast.AST) -> list[str]:
    """Return the constructors with too many arguments, or too many positional ones."""
    faults = []
    for function in functions_of(tree):
        if function.name != "__init__":
            continue
        positional = len(function.args.posonlyargs) + len(function.args.args) - 1
        if positional > MAX_POSITIONAL_ARGUMENTS:
            faults.append(f"line {function.lineno}: {positional} arguments not keyword-only")
        if positional + len(function.args.kwonlyargs) > MAX_CONSTRUCTOR_ARGUMENTS:
            faults.append(f"line {function.lineno}: too many constructor arguments")
    return faults


def attributes_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of every `module.name` in the code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.lineno, f"{node.value.id}.{node.attr}"


def unsafe_loads(tree: ast.AST) -> list[str]:
    """Return the uses of pickle, direct or by torch.load and numpy.load without their safe flag."""
    faults = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
        keywords = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
        if (owner, node.func.attr) == ("torch", "load") and keywords.get(
            "weights_only"
        ) is not True:
            faults.append(f"line {node.lineno}: torch.load without weights_only=True")
        if node.func.attr == "load" and keywords.get("allow_pickle") is True:
            faults.append(f"line {node.lineno}: load with allow_pickle=True")
    names = [*imports_of(tree, "any", is_package=False), *attributes_of(tree)]
    for line, name in names:
        module, _, function = name.partition(".")
        if module in PICKLERS and function in {"load", "loads", "Unpickler"}:
            faults.append(f"line {line}: uses {name}")
    return faults


def outer_functions_of(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    """Yield functions and methods, but none inside a function: wrappers may forward keywords."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield node
        else:
            yield from outer_functions_of(node)


def part(path: Path) -> str | None:
    return part_of(module_name(path))


def test_modules_import_only_from_lower_rows() -> None:
    expect_no_faults(
        PACKAGE_FILES,
        lambda p: layer_faults(p.read_text("utf-8"), module_name(p), p.name == "__init__.py"),
    )


def test_files_of_a_package_import_one_another_without_circles() -> None:
    """Check the files of each package; the rows already forbid circles between packages."""
    sources = {module_name(p): p.read_text("utf-8") for p in PACKAGE_FILES}
    del sources["bevstack"]  # it imports names of all packages on first use
    packages = {module_name(p) for p in PACKAGE_FILES if p.name == "__init__.py"}
    groups = circles(import_graph(sources, packages))
    assert not groups, "\n".join(
        f"{' <-> '.join(group)}: pass the lower file what it needs as an argument, or move the "
        "part that both use into a third file"
        for group in groups
    )


def test_every_package_has_a_row_and_every_folder_of_code_is_a_package() -> None:
    assert {part(p) for p in PACKAGE_FILES} - {None} <= set(ROWS)
    assert not [f for f in {p.parent for p in PACKAGE_FILES} if not (f / "__init__.py").is_file()]


def test_configurations_import_only_the_config_package_and_one_another() -> None:
    allowed = ("bevstack.config.", "bevstack.configs.", "__future__.", "dataclasses.replace")

    def faults(path: Path) -> list[str]:
        names = [name for _, name in imports_of(parse(path), "configs", is_package=True)]
        return [n for n in names if not n.startswith(allowed)]

    expect_no_faults(CONFIG_FILES, faults)


def test_files_and_their_functions_stay_short() -> None:
    def faults(path: Path) -> list[str]:
        length = len(path.read_text("utf-8").splitlines())
        long = [f.name for f in functions_of(parse(path)) if body_lines(f) > MAX_FUNCTION_LINES]
        return [*([f"{length} lines"] if length > MAX_FILE_LINES else []), *long]

    expect_no_faults([*OWN_FILES, *TEST_FILES], faults)


def test_the_wiring_of_a_task_stays_short() -> None:
    shared = {"__init__", "task", "joint", "joint_model", "held_out"}
    wiring = [p for p in (ROOT / "bevstack" / "tasks").glob("*.py") if p.stem not in shared]
    assert wiring
    for path in wiring:
        assert len(path.read_text("utf-8").splitlines()) <= MAX_WIRING_LINES, path


def test_native_files_stay_short() -> None:
    lengths = {p.name: len(p.read_text(encoding="utf-8").splitlines()) for p in NATIVE_FILES}
    assert not {name: n for name, n in lengths.items() if n > MAX_NATIVE_LINES}


def test_only_interop_imports_the_packages_of_openmmlab_and_transformers() -> None:
    def faults(path: Path) -> list[str]:
        names = [name for _, name in imports_of(parse(path), module_name(path), is_package=False)]
        return [n for n in names if n.split(".")[0].startswith(("mm", "transformers"))]

    elsewhere = [p for p in PACKAGE_FILES if part(p) != "interop"]
    peer = ROOT / "benchmarks" / "mmdet_peer.py"  # builds what a benchmark compares with
    assert peer in PROGRAM_FILES
    programs = [p for p in PROGRAM_FILES if p != peer]
    expect_no_faults([*elsewhere, *programs, *CONFIG_FILES], faults)


def test_only_the_command_prints() -> None:
    def faults(path: Path) -> list[str]:
        calls = [node for node in ast.walk(parse(path)) if isinstance(node, ast.Call)]
        return [
            f"line {call.lineno}"
            for call in calls
            if isinstance(call.func, ast.Name) and call.func.id == "print"
        ]

    expect_no_faults([p for p in PACKAGE_FILES if part(p) != "cli"], faults)


def test_no_function_takes_unnamed_keywords() -> None:
    expect_no_faults(
        OWN_FILES, lambda p: [f.name for f in outer_functions_of(parse(p)) if f.args.kwarg]
    )


def test_constructors_take_few_arguments() -> None:
    expect_no_faults(OWN_FILES, lambda p: constructor_faults(parse(p)))


def test_nothing_is_unpickled() -> None:
    files = [p for p in [*OWN_FILES, *TEST_FILES] if p != Path(__file__)]
    expect_no_faults(files, lambda p: unsafe_loads(parse(p)))


def test_no_module_has_a_catch_all_name() -> None:
    catch_all = {"util", "utils", "common", "misc", "helpers"}
    expect_no_faults(PACKAGE_FILES, lambda p: sorted(catch_all & set(module_name(p).split("."))))


def test_no_global_is_reassigned_and_only_the_command_reads_the_environment() -> None:
    def faults(path: Path) -> list[str]:
        nodes = list(ast.walk(parse(path)))
        globals_ = [f"line {n.lineno}: global" for n in nodes if isinstance(n, ast.Global)]
        reads = [n for n in nodes if isinstance(n, ast.Attribute) and n.attr == "environ"]
        return globals_ + [f"line {n.lineno}: environ" for n in reads if part(path) != "cli"]

    expect_no_faults(PACKAGE_FILES, faults)


@pytest.mark.parametrize(
    ("source", "module", "faulty"),
    [
        ("from bevstack.config import Config", "bevstack.models.backbones.fpn", False),
        ("from bevstack import shapes", "bevstack.ops.dcnv3", False),
        ("from bevstack import __version__", "bevstack.tables.write", False),
        ("from . import library", "bevstack.ops.dcnv3", False),
        ("import bevstack._C", "bevstack.ops.library", False),
        ("import bevstack._C", "bevstack.geometry.se3", True),
        ("def f():\n    from bevstack.training import loop", "bevstack.models.backbones.fpn", True),
        ("from bevstack.models import fpn", "bevstack.datasets.clips", True),
        ("from ..models import fpn", "bevstack.tables.read", True),
        ("from bevstack import load", "bevstack.losses.criterion", True),
        ("import bevstack", "bevstack.losses.criterion", True),
        ("import_module('bevstack.cli.main')", "bevstack.losses.criterion", True),
        ("from bevstack.unknown import x", "bevstack.cli.main", True),
    ],
)
def test_the_layer_check_finds_faulty_imports_only(source: str, module: str, faulty: bool) -> None:
    assert bool(layer_faults(source, module)) is faulty


def test_the_circle_check_finds_circles_only() -> None:
    sources = {
        "p": "",
        "p.a": "from p.b import f",
        "p.b": "def g():\n    from p import c",
        "p.c": "import torch",
        "p.d": "from p import c, d",
    }
    assert circles(import_graph(sources, {"p"})) == []
    sources["p.c"] = "if TYPE_CHECKING:\n    from .a import A"
    assert circles(import_graph(sources, {"p"})) == [["p.a", "p.b", "p.c"]]


def test_program_files_include_the_programs_of_every_folder() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in PROGRAM_FILES}
    assert {"benchmarks/ops.py", "tools/overfit.py", "data/make_world.py"} <= names


@pytest.mark.parametrize(
    ("source", "faulty"),
    [
        ("torch.load(path, weights_only=True)", False),
        ("torch.load(path)", True),
        ("torch.load(path, weights_only=False)", True),
        ("np.load(path)", False),
        ("np.load(path, allow_pickle=True)", True),
        ("try: f()\nexcept pickle.UnpicklingError: g()", False),
        ("from pickle import loads", True),
        ("pickle.load(file)", True),
        ("joblib.load(path)", True),
    ],
)
def test_the_pickle_check_finds_unsafe_loads_only(source: str, faulty: bool) -> None:
    assert bool(unsafe_loads(ast.parse(source))) is faulty


def test_the_length_and_constructor_checks_count_correctly() -> None:
    body = "\n".join(["    x = 1"] * 61)
    long, documented = (ast.parse(f"def f(\n  a,\n):\n{d}{body}") for d in ("", '    """D."""\n'))
    assert [body_lines(f) for t in (long, documented) for f in functions_of(t)] == [61, 61]
    constructor = "class A:\n  def __init__(self, {}): ..."
    good = constructor.format("a, b, *, c, d, e, f, g, h")
    assert not constructor_faults(ast.parse(good))
    assert constructor_faults(ast.parse(constructor.format("a, b, c")))
    assert constructor_faults(ast.parse(constructor.format("a, b, *, c, d, e, f, g, h, i")))


def test_the_package_is_typed_strictly_with_few_exceptions() -> None:
    """mypy itself runs in `make lint`; here its settings and the number of exceptions are held."""
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '[tool.mypy]\nstrict = true\nfiles = ["bevstack"]\n' in settings
    sources = [path.read_text(encoding="utf-8") for path in PACKAGE_FILES]
    ignored = sum(source.count("# type: ignore") for source in sources)
    assert ignored <= MAX_TYPE_IGNORES
    assert not any("mypy: ignore-errors" in source for source in sources)
