"""Lists and syntax trees of the project's source files, for the tests of its rules."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterator, Mapping, Set
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE_FILES = sorted((ROOT / "bevstack").rglob("*.py"))
CONFIG_FILES = sorted((ROOT / "configs").rglob("*.py"))
PROGRAM_FOLDERS = ("benchmarks", "tools", "data", "visualize", "examples")
PROGRAM_FILES = sorted(p for d in PROGRAM_FOLDERS for p in (ROOT / d).rglob("*.py"))
TEST_FILES = sorted((ROOT / "tests").rglob("*.py"))
NATIVE_FILES = sorted(
    p for p in (ROOT / "ops").rglob("*") if p.suffix in {".h", ".cuh", ".cpp", ".cu"}
)
BUILD_FILES = [ROOT / "setup.py", *sorted((ROOT / "ops").glob("*.py"))]
OWN_FILES = [*PACKAGE_FILES, *CONFIG_FILES, *PROGRAM_FILES, *BUILD_FILES]


def module_name(path: Path) -> str:
    """Return the dotted module name of a file below the root."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of all imports, nested ones included; relative ones are resolved.

    `from a import b` counts as `a.b`, because b may be a module.
    """
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base]).strip(".")
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and called_name(node) in {"import_module", "__import__"}:
            name = node.args[0] if node.args else None
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield node.lineno, name.value


def called_name(call: ast.Call) -> str:
    """Return the last part of the name that is called: `load` of `torch.load(...)`."""
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def import_graph(sources: Mapping[str, str], packages: Set[str]) -> dict[str, set[str]]:
    """Map each module to the modules among the sources that it imports, also inside functions.

    An import of a name counts as an import of the module that defines it.
    """
    graph: dict[str, set[str]] = {}
    for module, source in sources.items():
        graph[module] = set()
        for _, name in imports_of(ast.parse(source), module, module in packages):
            while name and name not in sources:
                name = name.rpartition(".")[0]
            if name and name != module:
                graph[module].add(name)
    return graph


def circles(graph: Mapping[str, Set[str]]) -> list[list[str]]:
    """Return the groups of modules that import one another, directly or indirectly."""
    return [group for group in _components(graph) if len(group) > 1]


def _components(graph: Mapping[str, Set[str]]) -> list[list[str]]:
    """Return the strongly connected components: groups of modules that reach each other."""
    reached = {module: _reachable(graph, module) for module in graph}
    groups: list[list[str]] = []
    assigned: set[str] = set()
    for module in graph:
        if module not in assigned:
            group = {module} | {m for m in reached[module] if module in reached[m]}
            assigned |= group
            groups.append(sorted(group))
    return groups


def _reachable(graph: Mapping[str, Set[str]], start: str) -> set[str]:
    reached: set[str] = set()
    pending = [start]
    while pending:
        new = graph[pending.pop()] - reached
        reached |= new
        pending += new
    return reached


def functions_of(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return every function and method, nested ones included."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return (node for node in ast.walk(tree) if isinstance(node, kinds))


@functools.cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def expect_no_faults(files: list[Path], faults_of: Callable[[Path], list[str]]) -> None:
    """Fail with the name and the faults of every file that breaks a rule."""
    faults_by_name = {path.relative_to(ROOT).as_posix(): faults_of(path) for path in files}
    lines = [f"{name}: {'; '.join(faults)}" for name, faults in faults_by_name.items() if faults]
    assert not lines, "\n".join(lines)
