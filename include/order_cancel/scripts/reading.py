"""Which form a script has, found by reading it: nothing of it is run here."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from types import CodeType
from typing import Literal, TypeVar

from include.order_cancel.errors import ScriptFailed
from include.order_cancel.scripts.imports import faults

T = TypeVar("T")
Kind = Literal["script", "response", "post"]
Form = Literal["integrator", "plain"]

# The plain form's function for each kind, and its arguments.
FUNCTIONS: dict[Kind, tuple[str, tuple[str, ...]]] = {
    "script": ("transform", ("plan", "attributes")),
    "response": ("respond", ("request", "response", "attributes")),
    "post": ("after", ("request", "response", "attributes")),
}
FILENAME = "<script>"
_GIVEN = frozenset({"session", "inputStream", "outputStream"})

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def form_of(text: str, kind: Kind) -> Form:
    """The form: `plain` with its function at the top level, `integrator` with the session or a callback.

    Raises ScriptFailed on a syntax error (with its line; Python 2's also with the Python 3 form), on a plain
    function of another kind or with other arguments, and where neither form is found.
    """
    return _form(parse(text), kind)


def check_script(text: str, kind: Kind) -> Form:
    """The form of a script that can run, as far as that is certain before it runs.

    Raises ScriptFailed as `form_of` does, and where Python refuses to compile the script, where a statement of
    Python 2 means something else to Python 3, and for imports that cannot work.
    """
    tree = parse(text)
    compiled(tree, text)
    _check_statements(tree, text)
    form = _form(tree, kind)
    if found := [fault for body in _certain_bodies(tree, kind, form) for fault in faults(body)]:
        raise ScriptFailed("; ".join(found))
    return form


def _form(tree: ast.Module, kind: Kind) -> Form:
    functions = _functions(tree)
    name, arguments = FUNCTIONS[kind]
    if name in functions:
        _check_arguments(functions[name], arguments)
        return "plain"
    callback = callback_to_run(tree)
    if callback is not None:
        _check_process(_process_of(callback))
    if callback or uses_session(tree):
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


def _functions(tree: ast.Module) -> dict[str, FunctionNode]:
    return {node.name: node for node in tree.body if isinstance(node, FunctionNode)}


def _certain_bodies(tree: ast.Module, kind: Kind, form: Form) -> Iterator[list[ast.stmt]]:
    """What runs for every plan: the script itself, and the function or the callback's `process` that is called."""
    yield tree.body
    callback = callback_to_run(tree)
    called = _functions(tree)[FUNCTIONS[kind][0]] if form == "plain" else callback and _process_of(callback)
    if called is not None and not called.decorator_list:
        yield called.body


def compiled(tree: ast.Module, text: str) -> CodeType:
    """The tree of `text`, compiled as the script process does. Raises ScriptFailed with the line of the mistake."""
    compiling: Callable[[], CodeType] = partial(compile, tree, FILENAME, "exec", dont_inherit=True)
    return _in_words(text, compiling, "compiled", "the script does not compile")


def parse(text: str) -> ast.Module:
    """The syntax tree. Raises ScriptFailed with the line of a syntax error."""
    return _in_words(text, lambda: ast.parse(text), "read", "the script is not text that Python reads")


def _in_words(text: str, work: Callable[[], T], doing: str, otherwise: str) -> T:
    """What `work` gives, without Python's warnings. Raises ScriptFailed for what Python has against the script."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return work()
    except SyntaxError as error:
        raise ScriptFailed(_syntax_message(text, error)) from None
    except (RecursionError, MemoryError):
        raise ScriptFailed(f"the script is nested too deep to be {doing}") from None
    except ValueError as error:
        raise ScriptFailed(f"{otherwise}: {error}") from None


def uses_session(tree: ast.Module) -> bool:
    """Whether the script names the session or one of the streams that are given to it."""
    return _names_any(tree, _GIVEN)


def names(tree: ast.Module, name: str) -> bool:
    """Whether the script uses the name, also in a function."""
    return _names_any(tree, frozenset({name}))


def _names_any(tree: ast.AST, names: frozenset[str]) -> bool:
    """Whether one of the names is used, other than as the argument of a function around it."""
    waiting = [(tree, names)]
    while waiting:
        node, free = waiting.pop()
        if isinstance(node, ast.Name) and node.id in free:
            return True
        if isinstance(node, FunctionNode | ast.Lambda):
            spec = node.args
            free -= {argument.arg for argument in spec.posonlyargs + spec.args + spec.kwonlyargs}
        waiting += ((child, free) for child in ast.iter_child_nodes(node))
    return False


def callback_to_run(tree: ast.Module) -> ast.ClassDef | None:
    """The last class at the top level that has a method `process`, where nothing else names a session to pass it to."""
    others = [node for node in tree.body if not (isinstance(node, ast.ClassDef) and _methods(node))]
    if uses_session(ast.Module(others, [])):
        return None
    found = [node for node in tree.body if isinstance(node, ast.ClassDef) and _methods(node)]
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


def _methods(node: ast.ClassDef) -> list[FunctionNode]:
    """The class's methods named `process`: the last one counts."""
    return [item for item in node.body if isinstance(item, FunctionNode) and item.name == "process"]


def _process_of(node: ast.ClassDef) -> FunctionNode:
    return _methods(node)[-1]


def _check_process(node: FunctionNode) -> None:
    _check_plain_def(node)
    spec = node.args
    positional = len(spec.posonlyargs) + len(spec.args)
    required = positional - len(spec.defaults)
    takes_both = required <= 3 and (positional >= 3 or spec.vararg is not None)
    if not node.decorator_list and not takes_both and not (positional == 2 and spec.vararg is None):
        wanted = "`def process(self, inputStream, outputStream)`, or with one of the two streams"
        raise ScriptFailed(f"line {node.lineno}: process() is called with the streams: {wanted}")


def _check_plain_def(node: FunctionNode) -> None:
    if isinstance(node, ast.AsyncFunctionDef):
        raise ScriptFailed(
            f"line {node.lineno}: {node.name}() is async; a script's function is a plain `def`"
        )
    if not node.decorator_list and _yields(node):
        raise ScriptFailed(
            f"line {node.lineno}: {node.name}() holds a `yield`, so nothing of it would run; use `return`"
        )


def _yields(function: FunctionNode) -> bool:
    """Whether the function itself is a generator; functions inside it may be."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(node, FunctionNode | ast.Lambda | ast.ClassDef):
            waiting += ast.iter_child_nodes(node)
    return False


def _check_arguments(node: FunctionNode, arguments: tuple[str, ...]) -> None:
    _check_plain_def(node)
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


def _check_statements(tree: ast.Module, text: str) -> None:
    """Refuses Python 2's print statements that Python 3 compiles, and that raise a TypeError when they run."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and (mended := _print_in_python_3(node.value)) is not None:
            first_line = (ast.get_source_segment(text, node) or "print").splitlines()[0]
            raise ScriptFailed(_is_python_2(node.lineno, first_line, _unparsed(mended)))


def _unparsed(call: ast.Call) -> str:
    try:
        return ast.unparse(ast.fix_missing_locations(call))
    except RecursionError:
        return "print(..., file=...)"


def _print_in_python_3(statement: ast.expr) -> ast.Call | None:
    """`print >>file, x` and `print ("%s") % x` as calls; None for every other statement."""
    first, *rest = statement.elts if isinstance(statement, ast.Tuple) and statement.elts else [statement]
    if not isinstance(first, ast.BinOp):
        return None
    if isinstance(first.op, ast.RShift) and _is_print(first.left):
        return ast.Call(_PRINT, rest, [ast.keyword("file", first.right)])
    holder = first
    while isinstance(holder.left, ast.BinOp):
        holder = holder.left
    printed = holder.left
    if isinstance(printed, ast.Call) and _is_print(printed.func) and len(printed.args) == 1:
        holder.left = printed.args[0]
        return ast.Call(_PRINT, [first, *rest], [])
    return None


_PRINT = ast.Name("print", ast.Load())


def _is_print(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "print"


def _is_python_2(line: int, written: str, python_3: str) -> str:
    return f"line {line}: `{written.strip()}` is Python 2; in Python 3: `{python_3.strip()}`"


def _syntax_message(text: str, error: SyntaxError) -> str:
    line = error.lineno or 1
    if isinstance(error, TabError):
        return f"line {line}: tabs and blanks are mixed in the indentation (Python 2 allowed it; use blanks)"
    lines = re.split(r"\r\n|\r|\n", text)  # as Python counts them
    written = lines[line - 1] if 0 < line <= len(lines) else ""
    python_3 = _in_python_3(written)
    if python_3:
        return _is_python_2(line, written, python_3)
    return f"line {line}: {error.msg}: `{written.strip()[:200]}`"


def _in_python_3(line: str) -> str | None:
    mended = line
    for pattern, replacement in _PYTHON_2:
        mended = pattern.sub(replacement, mended)
    return mended if mended != line else None
