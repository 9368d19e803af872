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

from bevstack.config.detector import Config
from bevstack.config.overrides import with_overrides
from bevstack.config.serialization import section_types
from bevstack.files import naming

_LOG = logging.getLogger(__name__)


def packaged_configs() -> list[str]:
    """Return the names of the configurations in the package, sorted."""
    files = resources.files("bevstack.configs").iterdir()
    return sorted(
        file.name[:-3]
        for file in files
        if file.name.endswith(".py") and not file.name.startswith("_")
    )


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
    text = str(name_or_path)
    if text in packaged_configs():
        path = Path(str(resources.files("bevstack.configs") / f"{text}.py"))
    elif text.endswith(".py") and Path(text).is_file():
        path = Path(text)
    else:
        close = difflib.get_close_matches(text, packaged_configs(), n=1)
        remedy = f"did you mean {close[0]!r}?" if close else ""
        raise FileNotFoundError(
            f"configuration must be one of {', '.join(packaged_configs())}, or the path of a .py "
            f"file; got {text!r}. {remedy}".strip()
        )
    config = _run(path)
    if not isinstance(config, Config):
        raise ValueError(f"{path} must define CONFIG = Config(...); got {type(config).__name__}")
    _LOG.info("configuration %s from %s", config.name, path)
    for override in overrides:
        _LOG.info("changed by %s", override)
    return with_overrides(config, overrides)


def describe_packaged() -> dict[str, str]:
    """Return the first line of each packaged configuration's docstring, by its name."""
    folder = resources.files("bevstack.configs")
    texts = {n: (folder / f"{n}.py").read_text(encoding="utf-8") for n in packaged_configs()}
    docstrings = {n: ast.get_docstring(ast.parse(text)) or "" for n, text in texts.items()}
    return {name: text.partition("\n")[0] for name, text in docstrings.items()}


def _run(path: Path) -> object:
    try:
        with naming(path):
            return runpy.run_path(str(path)).get("CONFIG")
    except TypeError as error:
        raise ValueError(_with_suggestion(path, error)) from None


def _with_suggestion(path: Path, error: TypeError) -> str:
    """Return Python's "unexpected keyword argument 'x'" with the nearest field name added."""
    message = f"{path.name}: {error}"
    wrong = str(error).split("'")
    if "unexpected keyword argument" not in str(error) or len(wrong) < 2:
        return message
    section = str(error).split(".")[0]
    kinds = {kind.__name__: kind for kind in section_types(Config)}
    known = [field.name for field in dataclasses.fields(kinds[section])] if section in kinds else []
    close = difflib.get_close_matches(wrong[1], known, n=1)
    remedy = f"did you mean {close[0]!r}?" if close else f"known fields: {', '.join(known)}"
    return f"{path.name}: {section} has no field {wrong[1]!r}; {remedy}"
