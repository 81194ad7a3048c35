"""Which form a script has, found by reading it: nothing of it is run here."""

from __future__ import annotations

import ast
import re
import warnings
from typing import Literal

from include.order_cancel.errors import ScriptFailed

Kind = Literal["script", "response", "post"]
Form = Literal["integrator", "plain"]

# The plain form's function for each kind, and its arguments.
FUNCTIONS: dict[Kind, tuple[str, tuple[str, ...]]] = {
    "script": ("transform", ("plan", "attributes")),
    "response": ("respond", ("request", "response", "attributes")),
    "post": ("after", ("request", "response", "attributes")),
}
_GIVEN = frozenset({"session", "inputStream", "outputStream"})

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def form_of(text: str, kind: Kind) -> Form:
    """The form: `plain` with its function at the top level, `integrator` with the session or a callback.

    Raises ScriptFailed on a syntax error (with its line; Python 2's also with the Python 3 form), on a plain
    function of another kind or with other arguments, and where neither form is found.
    """
    tree = parse(text)
    functions = {node.name: node for node in tree.body if isinstance(node, FunctionNode)}
    name, arguments = FUNCTIONS[kind]
    if name in functions:
        _check_arguments(functions[name], arguments)
        return "plain"
    if uses_session(tree) or callback_class(tree):
        return "integrator"
    wanted = f"def {name}({', '.join(arguments)})"
    for other_kind, (other, _) in FUNCTIONS.items():
        if other in functions:
            line = functions[other].lineno
            raise ScriptFailed(
                f"line {line}: {other}() belongs to a {other_kind} script; here it is `{wanted}`"
            )
    raise ScriptFailed(
        f"neither `{wanted}` nor an Integrator script (session, a class with process()) is found"
    )


def parse(text: str) -> ast.Module:
    """The syntax tree. Raises ScriptFailed with the line of a syntax error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except SyntaxError as error:
        raise ScriptFailed(_syntax_message(text, error)) from None
    except (RecursionError, MemoryError):
        raise ScriptFailed("the script is nested too deep to be read") from None
    except ValueError as error:
        raise ScriptFailed(f"the script is not text that Python reads: {error}") from None


def uses_session(tree: ast.Module) -> bool:
    """Whether the script names the session or one of the streams that are given to it."""
    return _names_any(tree, _GIVEN)


def _names_any(node: ast.AST, names: frozenset[str]) -> bool:
    """Whether one of the names is used, other than as the argument of a function around it."""
    if isinstance(node, ast.Name):
        return node.id in names
    if isinstance(node, FunctionNode | ast.Lambda):
        spec = node.args
        names -= {argument.arg for argument in spec.posonlyargs + spec.args + spec.kwonlyargs}
    return any(_names_any(child, names) for child in ast.iter_child_nodes(node))


def callback_class(tree: ast.Module) -> str | None:
    """The last class at the top level that has a method `process`."""
    found = [node.name for node in tree.body if isinstance(node, ast.ClassDef) and _has_process(node)]
    return found[-1] if found else None


def imports(tree: ast.Module) -> tuple[str, ...]:
    """The modules that the script names in its import statements, wherever they stand."""
    found: dict[str, None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found[node.module] = None
    return tuple(found)


def _has_process(node: ast.ClassDef) -> bool:
    return any(isinstance(item, FunctionNode) and item.name == "process" for item in node.body)


def _check_arguments(node: FunctionNode, arguments: tuple[str, ...]) -> None:
    if isinstance(node, ast.AsyncFunctionDef):
        raise ScriptFailed(
            f"line {node.lineno}: {node.name}() is async; a script's function is a plain `def`"
        )
    spec = node.args
    positional = len(spec.posonlyargs) + len(spec.args)
    required = positional - len(spec.defaults)
    keyword_only = any(default is None for default in spec.kw_defaults)
    fits = required <= len(arguments) and (positional >= len(arguments) or spec.vararg is not None)
    if not fits or keyword_only:
        wanted = f"def {node.name}({', '.join(arguments)})"
        raise ScriptFailed(
            f"line {node.lineno}: {node.name}() is called with {len(arguments)} values: `{wanted}`"
        )


# Python 2's forms, as Jython took them: what the line shows, and how Python 3 writes it.
_PYTHON_2: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"^(\s*)print\s*>>\s*([\w.]+)\s*,\s*(.+?)\s*$"), r"\1print(\3, file=\2)"),
    (re.compile(r"(^|[;:]\s*|^\s+)print\s+(?!\()([^;]+?)\s*(?=;|$)"), r"\1print(\2)"),
    (re.compile(r"(^|[;:]\s*|^\s+)print\s+(\(.+\)\s*[%+,].+?)\s*$"), r"\1print(\2)"),
    (re.compile(r"\bexcept\s+([\w.]+|\([\w., ]+\))\s*,\s*(\w+)\s*:"), r"except \1 as \2:"),
    (re.compile(r"\braise\s+([\w.]+)\s*,\s*(.+?)\s*$"), r"raise \1(\2)"),
    (re.compile(r"\bexec\s+(?!\()(.+?)\s+in\s+(\w+)\s*$"), r"exec(\1, \2)"),
    (re.compile(r"\bexec\s+(?!\()(.+?)\s*$"), r"exec(\1)"),
    (re.compile(r"<>"), "!="),
    (re.compile(r"`([^`]+)`"), r"repr(\1)"),
    (re.compile(r"\b[uU][rR](?=['\"])"), "r"),
    (re.compile(r"\b(0[xX][0-9a-fA-F]+|\d+)[lL]\b"), r"\1"),
    (re.compile(r"(?<![\w.])0(?=[0-7]+\b)"), "0o"),
    (re.compile(r"\blambda\s*\(([^)]*)\)\s*:"), r"lambda \1:"),
    (re.compile(r"\bdef\s+(\w+)\((.*)\(([^()]*)\)(.*)\)\s*:"), r"def \1(\2pair\4):  # then: \3 = pair"),
)


def _syntax_message(text: str, error: SyntaxError) -> str:
    line = error.lineno or 1
    if isinstance(error, TabError):
        return f"line {line}: tabs and blanks are mixed in the indentation (Python 2 allowed it; use blanks)"
    lines = text.splitlines()
    written = lines[line - 1] if 0 < line <= len(lines) else ""
    python_3 = _in_python_3(written)
    if python_3:
        return f"line {line}: `{written.strip()}` is Python 2; in Python 3: `{python_3.strip()}`"
    return f"line {line}: {error.msg}: `{written.strip()[:200]}`"


def _in_python_3(line: str) -> str | None:
    mended = line
    for pattern, replacement in _PYTHON_2:
        mended = pattern.sub(replacement, mended)
    return mended if mended != line else None
