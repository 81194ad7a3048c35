"""Small changes to a module's syntax tree, each of which a good test suite notices.

A comparison, `and` for `or`, a number or a text, a dropped statement, a negated condition, a value not returned. The
wordings of errors, of log lines and of what a plan's log says are left alone, as are annotations.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_SWAPPED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_TELLING = frozenset({"say", "tell", "note", "info", "warning", "error", "exception", "debug", "log"})


@dataclass(frozen=True)
class Place:
    """Where something can be changed, what, and the change itself; it is made in the tree, once."""

    line: int
    what: str
    change: Callable[[], None]


def places(tree: ast.Module) -> list[Place]:
    """All places of a tree, in an order that depends on the source alone."""
    return list(_in(tree, wording=False))


def _in(node: ast.AST, *, wording: bool) -> Iterator[Place]:
    wording = wording or isinstance(node, ast.Raise) or _tells(node)
    yield from _of(node, wording=wording)
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "type_params"):
            continue
        children = value if isinstance(value, list) else [value]
        for place, child in enumerate(children):
            if not isinstance(child, ast.AST) or _is_docstring(node, name, place, child):
                continue
            if isinstance(value, list) and _can_be_dropped(child):
                yield Place(child.lineno, f"dropped: {_short(child)}", _setter(value, place, ast.Pass()))
            yield from _in(child, wording=wording)


def _of(node: ast.AST, *, wording: bool) -> Iterator[Place]:
    if isinstance(node, ast.Compare):
        for place, sign in enumerate(node.ops):
            other = _SWAPPED[type(sign)]()
            what = f"{type(sign).__name__} > {type(other).__name__}: {_short(node)}"
            yield Place(node.lineno, what, _setter(node.ops, place, other))
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield Place(node.lineno, f"and / or: {_short(node)}", _attribute(node, "op", other))
    elif isinstance(node, ast.If | ast.While | ast.IfExp | ast.Assert):
        negated = ast.UnaryOp(ast.Not(), node.test)
        yield Place(node.lineno, f"not: {_short(node.test)}", _attribute(node, "test", negated))
    elif isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield Place(node.lineno, f"no value: {_short(node)}", _attribute(node, "value", ast.Constant(None)))
    elif isinstance(node, ast.Constant) and (changed := _changed(node.value, wording=wording)) is not None:
        what = f"{node.value!r} > {changed!r}"
        yield Place(node.lineno, what, _attribute(node, "value", changed))


def _changed(value: object, *, wording: bool) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return f"{value}x" if isinstance(value, str) and value and not wording else None


def _tells(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _TELLING


def _can_be_dropped(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        called = node.value.value if isinstance(node.value, ast.Await) else node.value
        return not _tells(called)
    return isinstance(node, ast.AugAssign | ast.Raise | ast.Delete)


def _is_docstring(parent: ast.AST, name: str, place: int, child: ast.AST) -> bool:
    return (
        isinstance(parent, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and (name, place) == ("body", 0)
        and isinstance(child, ast.Expr)
        and isinstance(child.value, ast.Constant)
    )


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _short(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())[:80]


def _setter(container: list[ast.AST], place: int, new: ast.AST) -> Callable[[], None]:
    return lambda: container.__setitem__(place, new)


def _attribute(node: ast.AST, name: str, new: object) -> Callable[[], None]:
    return lambda: setattr(node, name, new)
