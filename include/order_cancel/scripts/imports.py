"""What a script may import, and which of its imports cannot work: said without importing anything."""

from __future__ import annotations

import ast
import builtins
import functools
import os
import re
import sys
import types
from collections.abc import Iterator
from importlib.machinery import FrozenImporter, ModuleSpec, PathFinder
from pathlib import Path

from include.order_cancel.scripts import contract

# What requests and pendulum need besides themselves; not meant for scripts, and harmless.
_THIRD_PARTY = {
    "requests", "urllib3", "certifi", "idna", "charset_normalizer",
    "pendulum", "dateutil", "six", "tzdata", "pyjolt",
}  # fmt: skip
_OUR_PACKAGES = {"include", "include.order_cancel", "include.order_cancel.scripts"}
_OURS = _OUR_PACKAGES | {
    "include.order_cancel.errors",
    "include.order_cancel.mapping",
    "include.order_cancel.scripts.contract",
}
_JAVA = ("java", "javax", "org", "com")
_PYTHON_3 = {
    "ConfigParser": "configparser",
    "HTMLParser": "html.parser",
    "Queue": "queue",
    "StringIO": "from io import StringIO",
    "cPickle": "pickle",
    "cStringIO": "from io import StringIO",
    "httplib": "http.client",
    "urllib2": "urllib.request, or requests",
    "urlparse": "urllib.parse",
}
_NAMES_IN_PYTHON_3 = {
    "collections": "collections.abc",
    "itertools": "the built-in zip, map and filter",
    "string": "the methods of str",
    "urllib": "urllib.parse and urllib.request",
}
# Modules that others make while they are imported, so that no file shows them.
_MADE_BY_OTHERS = {
    "os.path",
    "pyexpat.errors",
    "pyexpat.model",
    "xml.parsers.expat.errors",
    "xml.parsers.expat.model",
}
# A module whose text has one of these may have names that its text does not show.
_MAKES_NAMES = re.compile(r"import \*|__getattr__|globals\(|_convert_|modules\[__name__\]")


def refusal(name: str) -> str | None:
    """Why a script may not import the module `name`, in words; None where it may."""
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or top in _THIRD_PARTY or name in _OURS:
        return None
    if top in _JAVA:
        return f"{name!r} is a Java package that scripts do not have here; see the migration guide"
    if top in _PYTHON_3:
        return f"No module named {name!r}"
    return f"a script can import the standard library, requests and pendulum; not {name!r}"


Import = ast.Import | ast.ImportFrom


def faults(body: list[ast.stmt]) -> Iterator[str]:
    """What is wrong with the imports that run whenever `body` runs, each with its line."""
    for node in _certain(body):
        for fault in _faults(node):
            yield f"line {node.lineno}: {fault}"


def _certain(body: list[ast.stmt]) -> Iterator[Import]:
    """The imports that run for sure: in no branch, no function, and where nothing catches their error."""
    for node in body:
        if isinstance(node, Import):
            yield node
        elif isinstance(node, ast.ClassDef):
            yield from _certain(node.body)
        elif isinstance(node, ast.Try):
            if not any(map(_may_catch, node.handlers)):
                yield from _certain(node.body)
            yield from _certain(node.finalbody)
        if any(isinstance(inner, ast.Return | ast.Raise) for inner in ast.walk(node)):
            return


def _may_catch(handler: ast.ExceptHandler) -> bool:
    """Whether the handler may be one for ImportError: all are, but those that name only other errors of Python."""
    if handler.type is None:
        return True
    named = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(not isinstance(one, ast.Name) or _may_be_import_error(one.id) for one in named)


def _may_be_import_error(name: str) -> bool:
    found = getattr(builtins, name, None)
    if not isinstance(found, type) or not issubclass(found, BaseException):
        return True
    return issubclass(ImportError, found) or issubclass(found, ImportError)


def _faults(node: Import) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from filter(None, (_module_fault(alias.name) for alias in node.names))
    elif node.level or node.module is None:
        yield "a script is one file, so it cannot import from its package with a leading dot"
    elif fault := _module_fault(node.module):
        yield fault
    else:
        yield from filter(None, (_name_fault(node.module, alias.name) for alias in node.names))


def _module_fault(name: str) -> str | None:
    if name in _java() or name == "__main__":
        return None
    top = name.partition(".")[0]
    if (refused := refusal(name)) is not None:
        return refused + _in_python_3(_PYTHON_3.get(top))
    found = name in _OURS or (_is_installed(top) if top in _THIRD_PARTY else _is_standard(name))
    return None if found else f"No module named {name!r}"


def _name_fault(module: str, name: str) -> str | None:
    """What is wrong with `from module import name`, where that is certain."""
    if name == "*" or name.startswith("__"):
        return None
    if module in _java():
        lacks = not hasattr(_java()[module], name)
    elif module in _OUR_PACKAGES:
        lacks = f"{module}.{name}" not in _OURS
    else:
        lacks = module.partition(".")[0] not in _THIRD_PARTY and _standard_lacks(module, name)
    return f"{module} has no {name!r}{_in_python_3(_NAMES_IN_PYTHON_3.get(module))}" if lacks else None


def _in_python_3(hint: str | None) -> str:
    return f" (in Python 3: {hint})" if hint else ""


@functools.cache
def _java() -> dict[str, types.ModuleType]:
    return contract.java_modules()


@functools.cache
def _is_installed(top: str) -> bool:
    return PathFinder.find_spec(top) is not None


def _is_standard(name: str) -> bool:
    return name in sys.builtin_module_names or name in _MADE_BY_OTHERS or _standard(name) is not None


@functools.cache
def _standard(name: str) -> ModuleSpec | None:
    """Where a module of the standard library is. Its parents are not imported, as importlib.util would do."""
    parent = name.rpartition(".")[0]
    if not parent:
        return PathFinder.find_spec(name, _standard_folders()) or FrozenImporter.find_spec(name)
    holder = _standard(parent)
    if holder is None or holder.submodule_search_locations is None:
        return None
    return PathFinder.find_spec(name, holder.submodule_search_locations)


@functools.cache
def _standard_folders() -> list[str]:
    """Where a bare interpreter looks, as the script process is one: no folder of this process's own path."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = str(Path(sys.base_exec_prefix, sys.platlibdir, version))
    zipped = str(Path(sys.base_prefix, sys.platlibdir, version.replace(".", "") + ".zip"))
    folders = [str(Path(os.__file__).parent), own]
    return [zipped, *folders, *(f"{folder}/lib-dynload" for folder in folders)]


def _standard_lacks(module: str, name: str) -> bool:
    if module in sys.builtin_module_names:
        loaded = sys.modules.get(module)
        return loaded is not None and not hasattr(loaded, name)
    if _is_standard(f"{module}.{name}"):
        return False
    text = _standard_text(module)
    return not (
        text is None or _MAKES_NAMES.search(text) or re.search(rf"(?<![.\w]){re.escape(name)}\b", text)
    )


@functools.cache
def _standard_text(module: str) -> str | None:
    spec = _standard(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    try:
        return Path(spec.origin).read_text("utf-8")
    except (OSError, ValueError):
        return None
