"""The words of the project: which are banned, which verbs open a docstring, and where they stand.

STYLE, section "Words": plain English that a stranger understands at once. A word that is banned
here either belongs to no field (``anew``) or hides who does what (``is told``, ``as said``).
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from typing import NamedTuple

# A banned word and what to write instead.
BANNED = {
    "said": "predicted, returned, given",
    "says": "returns, predicts, states",
    "told": "given, notified",
    "heard": "attended",
    "begun": "started",
    "anew": "again, from the start",
    "betters": "improves",
    "whom": "name the receiver",
    "nobody": "no query, no caller, none",
    "somebody": "name the actor",
    "anybody": "any user, any rig",
    "others": "the remaining, the other frames",
}
BANNED_PHRASES = {
    "what ships": "the packaged weights",
    "so many": "the number",
    "would listen": "if it is not used",
    "as said": "as described there",
    "goes without saying": "is left out",
    "has its way": "is kept",
}
BANNED_PREFIX = "of_"  # of a name: `class_rows`, not `of_class`
FORBIDDEN_OPENINGS = {"what", "whether", "which", "where", "how", "as"}
VERBS = frozenset(
    """
    abort accept accumulate add adjust adopt advance align allocate allow analyse annotate append
    apply approximate arrange ask assemble assert assign associate attach attend augment average
    await
    back balance begin blacken blend block bound break broadcast build
    cache calculate call cancel cast centre change check choose clamp classify clear clip close
    collect combine compare compile complete compress compute concatenate confirm connect constrain
    construct continue convert convolve copy correct count cover create crop cut
    darken decide declare decode decorate delete describe detach detect determine develop disable
    discard discretise display distort divide download drain draw drive drop
    embed emit enable encode end ensure enter enumerate erase estimate evaluate exchange execute
    exit expand expect explain export express extend extract
    fail fetch fill filter find finish fit flatten flip follow forget form format forward freeze
    fuse
    gather generate get give go group grow guess
    halve handle hash hide hold
    identify ignore import include index inform initialise insert inspect install interpolate
    intersect invert iterate
    join judge
    keep kill
    label launch lay learn leave let lift light limit line link list load locate lock log look lose
    lower
    make map mark mask match matmul mean measure merge mirror model mount move multiply
    name normalise note notify number
    offer offset open order outline overwrite
    pack pad paint pair park parse partition pass paste perform permute place plan plot point pool
    populate predict prepare preprocess press print process produce project propose provide prune
    publish put
    quantise query
    raise rank read rebuild receive recognise record reduce refer refine refuse register regulate
    release remove rename render repaint repeat replace replicate report request require resample
    rescale reset reshape resize resolve restart restore restrict resume return reuse reverse
    rewrite ride rotate round run
    sample save scale scan scatter schedule score search seed select send separate serialise set
    settle shade shape shard share shift show shrink shuffle shut simulate skip slice smooth solve
    sort spawn specify split spread square stack stand start state step stop store stream stretch
    strip subtract suggest sum summarise supervise support suppress swap sweep switch synchronise
    take tell terminate test tile time toggle touch trace track train transform translate transpose
    traverse treat trim try turn
    undistort undo unflatten union unpack update upload use
    validate vary verify visit
    wait walk warm warn warp weigh weight widen wrap write
    xavier yield zero
    """.split()  # noqa: SIM905  a list of words reads better than a list of strings
)
_WORD = re.compile(r"[A-Za-z]+")


class Fault(NamedTuple):
    """One place that breaks a rule, and the remedy."""

    line: int
    what: str

    def __str__(self) -> str:
        """Return "line N: what is wrong: the remedy"."""
        return f"line {self.line}: {self.what}"


def parts_of_name(name: str) -> list[str]:
    """Return the words of an identifier in lower case: ``['bev', 'memory']`` of ``BEVMemory``."""
    spaced = re.sub(r"([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])", r"\1\3_\2\4", name)
    return [part.lower() for part in spaced.split("_") if part]


def name_faults(name: str, line: int) -> list[Fault]:
    """Return the rules that an identifier breaks."""
    faults = [
        Fault(line, f"the name {name!r} holds {word!r}; write: {BANNED[word]}")
        for word in parts_of_name(name)
        if word in BANNED
    ]
    if name.lstrip("_").startswith(BANNED_PREFIX):
        faults.append(Fault(line, f"the name {name!r} starts with 'of_'; name the thing itself"))
    return faults


def prose_faults(text: str, line: int) -> list[Fault]:
    """Return the banned words and phrases of a docstring, comment, message or page.

    Names in back quotes are checked as names, where they are defined.
    """
    faults = []
    code = re.compile(r"`+[^`\n]*`+")
    for offset, row in enumerate(text.split("\n")):
        plain = code.sub(" ", row).lower()
        for word in _WORD.findall(plain):
            if word in BANNED:
                faults.append(Fault(line + offset, f"{word!r}; write: {BANNED[word]}"))
    joined = re.sub(r"\s+", " ", code.sub(" ", text).lower())
    for phrase, remedy in BANNED_PHRASES.items():
        if phrase in joined:
            faults.append(Fault(line, f"{phrase!r}; write: {remedy}"))
    return faults


def source_faults(source: str) -> list[Fault]:
    """Return the banned words of a Python file, in names, strings and comments."""
    faults: list[Fault] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        line = token.start[0]
        if token.type == tokenize.NAME:
            faults += name_faults(token.string, line)
        elif token.type == tokenize.COMMENT or (
            token.type in _STRINGS and " " in token.string.strip()
        ):
            faults += prose_faults(token.string, line)
    return sorted(set(faults))


_STRINGS = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}


def docstrings(tree: ast.AST) -> Iterator[tuple[ast.AST, int, str]]:
    """Yield every documented module, class and function with the line and text of its docstring."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield node, node.body[0].lineno, text


def opening_faults(source: str) -> list[Fault]:
    """Return the docstrings whose first word breaks the rule.

    A function's first word is a verb in the imperative; a class's or module's is not one of
    ``FORBIDDEN_OPENINGS``.
    """
    faults = []
    for node, line, text in docstrings(ast.parse(source)):
        words = _WORD.findall(text.split("\n")[0])
        first = words[0].lower() if words else ""
        if first in FORBIDDEN_OPENINGS:
            faults.append(Fault(line, f"a docstring opens with {words[0]!r}; {_remedy(node)}"))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and first not in VERBS:
            faults.append(
                Fault(
                    line,
                    f"the docstring of {node.name!r} opens with {first!r}; open it with a verb in "
                    "the imperative (a verb that is missing goes into VERBS of tests/words.py)",
                )
            )
    return faults


def _remedy(node: ast.AST) -> str:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return "open it with a verb: Return, Sample, ..."
    return "open it with a noun phrase"
