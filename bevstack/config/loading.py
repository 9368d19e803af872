"""Loading of configurations: packaged ones by name, files that define CONFIG by path."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import logging
import runpy
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from bevstack.config.detector import Config
from bevstack.config.overrides import with_overrides
from bevstack.config.serialization import Whole, section_types
from bevstack.files import naming

if TYPE_CHECKING:
    from importlib.abc import Traversable

_LOG = logging.getLogger(__name__)


def packaged_configs(task: str | None = None) -> list[str]:
    """Return the names of the configurations in the package, sorted.

    Args:
        task: a task with configurations of its own, such as "detection2d"; None: detectors of 3D
            boxes.
    """
    files = _packaged(task).iterdir()
    return sorted(
        file.name[:-3]
        for file in files
        if file.name.endswith(".py") and not file.name.startswith("_")
    )


def _packaged(task: str | None) -> Traversable:
    folder = resources.files("bevstack.configs")
    return folder if task is None else folder / task


def load_task_config(
    kind: type[Whole] | tuple[type[Whole], ...],
    task: str,
    name_or_path: str | Path,
    overrides: Sequence[str] = (),
) -> Whole:
    """Return a configuration of a task with configurations of its own; see ``load_config``.

    Args:
        kind: class of the task's configurations, or several.
        task: name of the task, such as "detection2d".
        name_or_path: name of a packaged configuration, or the path of a file.
        overrides: changes of single fields.
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    config = _load(kinds, name_or_path, task)
    _note_overrides(overrides)
    return with_overrides(config, overrides)


def defines(name_or_path: str | Path, kind: type) -> bool:
    """Return True for a file, which is run, that defines a configuration of a class.

    Raises:
        ValueError: the file names an unknown field, or its fields contradict each other.
    """
    path = Path(name_or_path)
    return path.suffix == ".py" and path.is_file() and isinstance(_run(path, (kind,)), kind)


def load_config(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Return a packaged configuration by name, such as "tiny_cpu", or that of a ``.py`` file.

    The file must define ``CONFIG = Config(...)``. It is run as Python, so load only files you
    trust. ``overrides`` change single fields, such as "training.learning_rate=3e-4"; see
    ``with_overrides``.

    Raises:
        FileNotFoundError: neither a packaged name nor a file; the message names the nearest name.
        ValueError: the file defines no CONFIG, it or an override names an unknown field, or the
            fields contradict each other.
    """
    config = _load((Config,), name_or_path, None)
    _note_overrides(overrides)
    return with_overrides(config, overrides)


def _note_overrides(overrides: Sequence[str]) -> None:
    for override in overrides:
        _LOG.info("changed by %s", override)


def _load(kinds: tuple[type[Whole], ...], name_or_path: str | Path, task: str | None) -> Whole:
    text, names = str(name_or_path), packaged_configs(task)
    if text in names:
        path = Path(str(_packaged(task) / f"{text}.py"))
    elif text.endswith(".py") and Path(text).is_file():
        path = Path(text)
    else:
        close = difflib.get_close_matches(text, names, n=1)
        remedy = f"did you mean {close[0]!r}?" if close else ""
        raise FileNotFoundError(
            f"configuration must be one of {', '.join(names)}, or the path of a .py "
            f"file; got {text!r}. {remedy}".strip()
        )
    config = _run(path, kinds)
    if not isinstance(config, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"{path} must define CONFIG = {wanted}(...); got {type(config).__name__}")
    _LOG.info("configuration %s from %s", getattr(config, "name", text), path)
    return config


def describe_packaged(task: str | None = None) -> dict[str, str]:
    """Return the first line of each packaged configuration's docstring, by its name."""
    folder = _packaged(task)
    texts = {n: (folder / f"{n}.py").read_text(encoding="utf-8") for n in packaged_configs(task)}
    docstrings = {n: ast.get_docstring(ast.parse(text)) or "" for n, text in texts.items()}
    return {name: text.partition("\n")[0] for name, text in docstrings.items()}


def _run(path: Path, kinds: Sequence[type]) -> object:
    try:
        with naming(path):
            return runpy.run_path(str(path)).get("CONFIG")
    except TypeError as error:
        raise ValueError(_with_suggestion(path, kinds, error)) from None


def _with_suggestion(path: Path, wholes: Sequence[type], error: TypeError) -> str:
    """Return Python's "unexpected keyword argument 'x'" with the nearest field name added."""
    message = f"{path.name}: {error}"
    wrong = str(error).split("'")
    if "unexpected keyword argument" not in str(error) or len(wrong) < 2:
        return message
    section = str(error).split(".")[0]
    kinds = {kind.__name__: kind for whole in wholes for kind in section_types(whole)}
    known = [field.name for field in dataclasses.fields(kinds[section])] if section in kinds else []
    close = difflib.get_close_matches(wrong[1], known, n=1)
    remedy = f"did you mean {close[0]!r}?" if close else f"known fields: {', '.join(known)}"
    return f"{path.name}: {section} has no field {wrong[1]!r}; {remedy}"
