from __future__ import annotations

import argparse
import subprocess
import sys
import warnings
from collections.abc import Callable
from types import ModuleType

import pytest

import bevstack
from bevstack.cli.main import VERBS, Verb, build_parser, main

ISSUED_VERBS = (
    "demo",
    "train-demo",
    "make-world",
    "train",
    "evaluate",
    "predict",
    "show",
    "view",
    "export",
    "make-bag",
    "node",
    "play-bag",
    "benchmark",
    "judge",
    "study",
    "config",
    "convert-weights",
    "doctor",
    "build-ops",
)


@pytest.fixture
def run_verb(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Return a function that runs the command with one verb `work` of a given body."""

    def run(body: Callable[[argparse.Namespace], int], *argv: str) -> int:
        module = ModuleType("verb_under_test", "Works.")
        module.add_arguments = lambda parser: None  # type: ignore[attr-defined]
        module.run = body  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "verb_under_test", module)
        verb = Verb(name="work", module="verb_under_test", summary="works")
        return main(["work", *argv], [verb])

    return run


def failing(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def body(args: argparse.Namespace) -> int:
        raise error

    return body


def test_help_names_every_verb_and_where_to_start(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0
    assert [verb.name for verb in VERBS] == list(ISSUED_VERBS)
    assert all(f"\n    {name}" in text for name in ISSUED_VERBS)
    assert "bevstack demo" in text and "bevstack doctor" in text


@pytest.mark.parametrize("name", ISSUED_VERBS)
def test_help_of_a_verb_names_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: bevstack {name} ") and "--traceback" in text


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    program = (
        "import sys\n"
        "from bevstack.cli.main import build_parser\n"
        "build_parser().format_help()\n"
        "print(*sorted({'torch', 'numpy', 'cv2', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


@pytest.mark.parametrize("argv", [[], ["fly"], ["doctor", "--wings"]])
def test_wrong_usage_ends_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    assert "usage: bevstack" in capsys.readouterr().err


def test_exit_code_of_the_verb_is_returned(run_verb: Callable[..., int]) -> None:
    assert run_verb(lambda args: 0) == 0
    assert run_verb(lambda args: 3) == 3


def test_an_error_of_the_user_is_one_sentence(
    run_verb: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb(failing(ValueError("x must be even;\n got 3; give 2 or 4"))) == 2
    captured = capsys.readouterr()
    assert captured.err == "bevstack work: error: x must be even; got 3; give 2 or 4\n"
    assert captured.out == ""


def test_traceback_is_shown_when_asked_for(
    run_verb: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb(failing(ValueError("x must be even; got 3")), "--traceback") == 2
    text = capsys.readouterr().err
    assert "Traceback (most recent call last)" in text
    assert text.endswith("bevstack work: error: x must be even; got 3\n")


def test_fault_of_the_program_is_not_hidden(run_verb: Callable[..., int]) -> None:
    with pytest.raises(KeyError, match="token"):
        run_verb(failing(KeyError("token")))


def test_interrupt_ends_with_130(
    run_verb: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb(failing(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "bevstack work: interrupted\n"


def test_a_closed_pipe_is_no_error() -> None:
    program = (
        "import os, sys\n"
        "from bevstack.cli.main import main\n"
        "sys.stdin.read()\n"  # waits until the reader has closed the pipe
        "sys.exit(main(['doctor', '--json']))"
    )
    child = subprocess.Popen(
        [sys.executable, "-u", "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdin is not None and child.stdout is not None and child.stderr is not None
    child.stdout.close()
    child.stdin.close()
    assert child.stderr.read() == b""
    assert child.wait() == 141
    child.stderr.close()


def test_warnings_of_bevstack_become_notes_and_foreign_ones_stay_unchanged(
    run_verb: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    def body(args: argparse.Namespace) -> int:
        for origin in (bevstack.__file__, "elsewhere.py"):
            warnings.warn_explicit(f"warning from {origin}", RuntimeWarning, origin, lineno=7)
        return 0

    passed_on: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *rest: passed_on.append(str(message))
        assert run_verb(body) == 0
    assert passed_on == ["warning from elsewhere.py"]
    note = f"bevstack work: note: warning from {bevstack.__file__}\n"
    assert capsys.readouterr().err == note


def test_every_verb_declares_its_arguments() -> None:
    actions = build_parser()._subparsers
    assert actions is not None
    (choices,) = (a.choices for a in actions._group_actions)
    assert choices is not None and set(choices) == set(ISSUED_VERBS)
