"""Which form a script has, and what is said of one that has none."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from keyword import iskeyword
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.order_cancel.errors import ScriptFailed
from include.order_cancel.scripts import runner
from include.order_cancel.scripts.contract import Log
from include.order_cancel.scripts.default_response import DEFAULT_RESPONSE_SCRIPT
from include.order_cancel.scripts.reading import Kind, check_script, form_of, imports, parse
from tests.shares import examples, thorough

ROOT = Path(__file__).parents[3]
CASES = sorted((ROOT / "tests/cases/scripts").glob("*.json"))
STANDARD = sys.stdlib_module_names - {"__future__", "antigravity", "this", "idlelib", "test", "turtle"}

CALLBACK = "class Change:\n    def process(self, inputStream, outputStream):\n        pass\n"


def problem(text: str, kind: Kind = "script", reader: Callable[[str, Kind], object] = form_of) -> str:
    with pytest.raises(ScriptFailed) as caught:
        reader(text, kind)
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("script", "def transform(plan, attributes): return plan"),
        ("script", "def transform(p, a, extra=None): return p"),
        ("script", "def transform(*values): return values[0]"),
        ("script", "session = None\ndef transform(plan, attributes): return plan"),
        ("response", "def respond(request, response, attributes): return 'continue'"),
        ("post", "def after(request, response, attributes): pass"),
    ],
)
def test_a_plain_function_makes_the_plain_form(kind: Kind, text: str) -> None:
    assert form_of(text, kind) == "plain"


@pytest.mark.parametrize(
    "text",
    ["flowFile = session.get()", CALLBACK, "outputStream.write(inputStream.read())", DEFAULT_RESPONSE_SCRIPT],
)
@pytest.mark.parametrize("kind", ["script", "response", "post"])
def test_session_callback_or_streams_make_the_integrator_form(kind: Kind, text: str) -> None:
    assert form_of(text, kind) == "integrator"


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("script", "", "neither `def transform(plan, attributes)` nor an Integrator script"),
        ("script", "x = 1\ndef main(): pass", "neither `def transform(plan, attributes)`"),
        ("script", "def f(session): return session", "neither `def transform(plan, attributes)`"),
        ("script", "def transform(plan): return plan", "line 1: transform() is called with 2 values"),
        ("script", "def transform(a, b, c): return a", "line 1: transform() is called with 2 values"),
        ("script", "def transform(a, b, *, c): return a", "line 1: transform() is called with 2 values"),
        ("script", "\nasync def transform(a, b): return a", "line 2: transform() is async"),
        ("script", "def respond(a, b, c): return a", "respond() belongs to a response script"),
        ("post", "def transform(a, b): return a", "transform() belongs to a script script"),
        (
            "response",
            "def after(a, b, c): return a",
            "here it is `def respond(request, response, attributes)`",
        ),
        ("script", "def transform(plan, attributes):\n  return (", "line 2: '(' was never closed"),
        ("script", "x = '\0'", "line 1: source code string cannot contain null bytes"),
        ("script", "(" * 5000, "too many nested parentheses"),
        ("script", "x = " + "-" * 100_000 + "1", "nested too deep"),
    ],
)
def test_a_script_without_a_form_is_refused_with_the_reason(kind: Kind, text: str, message: str) -> None:
    assert message in problem(text, kind)


@pytest.mark.parametrize(
    ("python_2", "python_3"),
    [
        ('print "a", b', 'print("a", b)'),
        ('if x: print "a"; print "b"', 'if x: print("a"); print("b")'),
        ("except ValueError, e:", "except ValueError as e:"),
        ("except (KeyError, ValueError), e:", "except (KeyError, ValueError) as e:"),
        ('raise ValueError, "bad"', 'raise ValueError("bad")'),
        ("if a <> b: pass", "if a != b: pass"),
        ("x = 10L", "x = 10"),
        ("x = 0xFFL", "x = 0xFF"),
        ("x = 0777", "x = 0o777"),
        ('exec "x = 1"', 'exec("x = 1")'),
        ('exec "x = 1" in space', 'exec("x = 1", space)'),
        ("x = `y`", "x = repr(y)"),
        ('x = ur"\\d"', 'x = r"\\d"'),
        ("f = lambda (a, b): a", "f = lambda a, b: a"),
    ],
)
def test_python_2_syntax_is_named_with_its_line_and_the_python_3_form(python_2: str, python_3: str) -> None:
    before = "try:\n    session.get()\n" if python_2.startswith("except") else "session.get()\n\n"
    told = problem(f"{before}{python_2}\n    pass\n" if python_2.startswith("except") else before + python_2)

    assert told == f"line 3: `{python_2}` is Python 2; in Python 3: `{python_3}`"


def test_mixed_tabs_and_blanks_are_told_as_such() -> None:
    told = problem("if session:\n\tx = 1\n        y = 2\n")

    assert told.startswith("line 3: tabs and blanks are mixed")


def test_imports_are_found_wherever_they_stand() -> None:
    tree = parse("import a.b, c\ndef f():\n    from d.e import g\n    from . import h\n")

    assert imports(tree) == ("a.b", "c", "d.e")


@examples(300)
@given(
    text=st.text(max_size=80) | st.text(alphabet="defclassprintransform(,):=\n \"'0L<>`x", max_size=80),
    kind=st.sampled_from(["script", "response", "post"]),
)
def test_any_text_has_a_form_or_is_refused(text: str, kind: Kind) -> None:
    try:
        said = form_of(text, kind) == check_script(text, kind)
    except ScriptFailed as error:
        said = bool(str(error))

    assert said


TRANSFORM = "def transform(plan, attributes):\n    return plan\n"


def refused(text: str, kind: Kind = "script") -> str:
    return problem(text, kind, check_script)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("session.get()\nreturn 1", "line 2: 'return' outside function: `return 1`"),
        (TRANSFORM + "break", "line 3: 'break' outside loop"),
        (TRANSFORM + "yield 1", "line 3: 'yield' outside function"),
        (
            "import json\nfrom __future__ import division\n" + TRANSFORM,
            "line 2: from __future__ imports must",
        ),
        ("from __future__ import switches\n" + TRANSFORM, "line 1: future feature switches is not defined"),
        ("def transform(plan, plan): return plan", "line 1: duplicate argument 'plan'"),
        (TRANSFORM + "def f():\n    x = 1\n    global x", "line 5: name 'x' is assigned to before global"),
        ("x = '\x0c\u2028'\n" + TRANSFORM + "return 1", "line 4: 'return' outside function: `return 1`"),
    ],
)
def test_what_python_does_not_compile_is_refused_with_its_line(text: str, told: str) -> None:
    assert refused(text).startswith(told)


@pytest.mark.parametrize(
    ("python_2", "python_3"),
    [
        ('print >>sys.stderr, "a", b', "print('a', b, file=sys.stderr)"),
        ("print >>log", "print(file=log)"),
        ('print ("%s") % plan', "print('%s' % plan)"),
        ('print ("%s") % plan + "x", 1', "print('%s' % plan + 'x', 1)"),
    ],
)
def test_a_print_of_python_2_that_compiles_is_refused_wherever_it_stands(
    python_2: str, python_3: str
) -> None:
    told = refused(
        f"import sys\ndef transform(plan, attributes):\n    if plan: {python_2}\n    return plan\n"
    )

    assert told == f"line 3: `{python_2}` is Python 2; in Python 3: `{python_3}`"


def test_words_of_python_2_in_comments_and_texts_are_nobodys_business() -> None:
    text = '"""print >>x, `y` <> z"""\n# print "x"\nx = "print (a) % b"\nprint("a"), 1 >> 2\n'

    assert check_script(text + TRANSFORM, "script") == "plain"


@pytest.mark.parametrize(
    ("imported", "told"),
    [
        ("import airflow", "a script can import the standard library, requests and pendulum; not 'airflow'"),
        ("import json, numpy.linalg", "not 'numpy.linalg'"),
        (
            "from urllib2 import urlopen",
            "No module named 'urllib2' (in Python 3: urllib.request, or requests)",
        ),
        ("import winreg", "No module named 'winreg'"),
        ("import json.nothing", "No module named 'json.nothing'"),
        ("import os.nothing", "No module named 'os.nothing'"),
        ("import xml.dom.nothing", "No module named 'xml.dom.nothing'"),
        ("from urllib import urlencode", "urllib has no 'urlencode' (in Python 3: urllib.parse"),
        ("from itertools import izip", "itertools has no 'izip'"),
        ("from collections import Mapping", "collections has no 'Mapping' (in Python 3: collections.abc)"),
        ("from string import maketrans", "string has no 'maketrans' (in Python 3: the methods of str)"),
        ("from json import load, nothing", "json has no 'nothing'"),
        ("from java.util import HashMap", "'java.util' is a Java package that scripts do not have here"),
        ("from java.io import File", "java.io has no 'File'"),
        ("import org.apache.commons.io.IOUtils", "'org.apache.commons.io.IOUtils' is a Java package"),
        ("from include.order_cancel import journal", "include.order_cancel has no 'journal'"),
        ("from . import helpers", "cannot import from its package"),
        ("class A:\n    import airflow", "not 'airflow'"),
        ("try:\n    import airflow\nfinally:\n    pass", "not 'airflow'"),
        ("try:\n    import airflow\nexcept KeyError:\n    pass", "not 'airflow'"),
    ],
)
def test_an_import_that_cannot_work_is_refused_with_its_line(imported: str, told: str) -> None:
    lines = imported.splitlines()
    line = 1 + next(number for number, text in enumerate(lines) if "import" in text)

    for text in (f"{imported}\n{TRANSFORM}", f"{imported}\nsession.get()\n"):
        assert refused(text).startswith(f"line {line}: ")
        assert told in refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "def transform(plan, attributes):\n    import airflow\n    return plan\n",
        "class C:\n    def process(self, inputStream, outputStream):\n        import airflow\n",
    ],
)
def test_an_import_that_every_call_comes_to_is_refused(text: str) -> None:
    assert "not 'airflow'" in refused(text)


def test_every_import_that_cannot_work_is_told_at_once() -> None:
    told = refused("import airflow\nimport urllib2\n" + TRANSFORM)

    assert "line 1: " in told
    assert "line 2: " in told


@pytest.mark.parametrize(
    "imported",
    [
        "import os.path, xml.dom.minidom, concurrent.futures, importlib.util, pyexpat.errors, __main__",
        "from os import path, getcwd\nfrom http import client, HTTPStatus\nfrom socket import AF_INET",
        "from ssl import OP_NO_SSLv3\nfrom re import IGNORECASE\nfrom time import sleep\nimport _thread",
        "import requests.packages.urllib3, urllib3.util\nfrom dateutil import parser",
        "import org.apache.commons.io\nfrom java.io import *\nfrom java import nio",
        "from org.apache.nifi.processor.io import StreamCallback\nfrom java.nio.charset import StandardCharsets",
        "from include.order_cancel.scripts import contract\nfrom include.order_cancel.errors import ScriptFailed",
        "from __future__ import print_function, division",
        "try:\n    import urllib2\nexcept ImportError:\n    import urllib.request as urllib2",
        "try:\n    import urllib2\nexcept (KeyError, Exception):\n    pass",
        "try:\n    import urllib2\nexcept:\n    pass",
        "try:\n    import urllib2\nexcept some.Error:\n    pass",
        "import sys\nif sys.version_info[0] == 2:\n    import urllib2",
        "from contextlib import suppress\nwith suppress(ImportError):\n    import airflow",
        "def helper():\n    import airflow",
        "f = lambda: __import__('airflow')",
    ],
)
def test_an_import_that_may_work_is_not_refused(imported: str) -> None:
    assert check_script(f"{imported}\n{TRANSFORM}", "script") == "plain"


def test_an_import_that_a_call_may_never_come_to_is_not_refused() -> None:
    body = "    if not plan:\n        return plan\n    import airflow\n    return plan\n"

    assert check_script("def transform(plan, attributes):\n" + body, "script") == "plain"


def test_nothing_is_imported_to_judge_an_import(tmp_path: Path) -> None:
    (tmp_path / "requests").mkdir()
    (tmp_path / "requests" / "__init__.py").write_text("raise SystemExit('the package was run')")
    script = f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        from include.order_cancel.scripts.reading import check_script
        before = set(sys.modules)
        text = "import this, antigravity, requests.api, xml.dom.minidom, email.mime.text\\n"
        check_script(text + "from ctypes import util\\ndef transform(plan, attributes): return plan", "script")
        print(sorted(set(sys.modules) - before))
    """

    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert told.stdout == "[]\n"


@pytest.mark.parametrize("module", [thorough(name) for name in sorted(STANDARD)])
def test_no_name_that_a_standard_module_has_is_refused(module: str) -> None:
    script = f"import {module} as m; print('\\n'.join(n for n in vars(m) if n.isidentifier() and n != '__debug__'))"
    told = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=False
    )
    if told.returncode:
        return  # it cannot be imported on this machine: there are no names to compare

    text = "".join(f"from {module} import {name}\n" for name in told.stdout.split() if not iskeyword(name))
    assert check_script(text + TRANSFORM, "script") == "plain"


@pytest.mark.parametrize(
    ("kind", "text", "told"),
    [
        ("script", "def transform(plan, attributes):\n    yield plan", "line 1: transform() holds a `yield`"),
        ("post", "def after(request, response, attributes):\n    yield", "line 1: after() holds a `yield`"),
        ("script", "class C:\n    def process(self):\n        pass", "line 2: process() is called with"),
        (
            "script",
            "class C:\n    def process(self, a, b, c):\n        pass",
            "line 2: process() is called with",
        ),
        ("script", "class C:\n    def process():\n        pass", "line 2: process() is called with"),
        (
            "script",
            "class C:\n    async def process(self, i, o):\n        pass",
            "line 2: process() is async",
        ),
    ],
)
def test_a_function_that_cannot_be_called_is_refused(kind: Kind, text: str, told: str) -> None:
    assert refused(text, kind).startswith(told)


@pytest.mark.parametrize(
    "text",
    [
        "class C:\n    def process(self, inputStream): pass",
        "class C:\n    def process(self, i, o, more=None): pass",
        "class C:\n    def process(self, *streams): pass",
        "class C:\n    @staticmethod\n    def process(i, o): pass",
        "def transform(plan, attributes):\n    def each():\n        yield 1\n    return list(each())",
    ],
)
def test_a_function_that_can_be_called_is_not_refused(text: str) -> None:
    assert check_script(text, "script") in ("plain", "integrator")


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "1+" * 900 + "1\n" + TRANSFORM,
        "def transform(plan, attributes):\n    return " + "plan or " * 200 + "-" * 150 + "1\n",
        "if x:\n    pass\n" + "elif x:\n    pass\n" * 400 + TRANSFORM,
        "x = a" + ".b" * 900 + "\n" + TRANSFORM,
    ],
)
def test_a_long_script_is_read(text: str) -> None:
    assert form_of(text, "script") == "plain"
    assert check_script(text, "script") == "plain"


@pytest.mark.parametrize("depth", [300, 900, 2900, 10_000])
@pytest.mark.parametrize(
    "shape",
    [("x = ", "1+", "1"), ("x = a", ".b", ""), ("print >>x, ", "1+", "1"), ("", "elif x: pass\n", "")],
)
def test_a_script_nested_too_deep_is_refused_in_words(shape: tuple[str, str, str], depth: int) -> None:
    before, again, after = shape
    text = ("" if before else "if x: pass\n") + before + again * depth + after + "\n" + TRANSFORM

    try:
        said = check_script(text, "script") == "plain"
    except ScriptFailed as error:
        said = "nested too deep" in str(error) or "is Python 2" in str(error)

    assert said


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_every_script_of_the_golden_cases_is_valid(case: Path) -> None:
    found = json.loads(case.read_text("utf-8"))

    assert check_script("\n".join(found["script"]), found["kind"]) in ("plain", "integrator")


@pytest.mark.parametrize("kind", ["script", "response"])
def test_the_input_text_is_there_in_a_function_too(kind: Kind) -> None:
    text = (
        "def main():\n    if json.loads(input_text)['pk'] != 5001:\n        raise ValueError(input_text)\n"
        "    flowFile = session.get()\n    session.putAttribute(flowFile, 'relation', 'continue')\n"
        "import json\nmain()\n"
    )
    said = runner.run(runner.compile_script(text, kind), b'{"pk": 5001}', {}, None, Log())

    assert said.error is None


def test_a_callback_that_names_the_session_itself_is_run() -> None:
    text = (
        "class Callback(StreamCallback):\n    def process(self, inputStream, outputStream):\n"
        "        session.putAttribute(flowFile, 'seen', 'yes')\n"
        '        outputStream.write(bytearray(b\'{"amount": "0.01"}\'))\n'
    )
    said = runner.run(runner.compile_script(text, "script"), b'{"amount": "9"}', {}, None, Log())

    assert (said.error, said.body, said.attributes.get("seen")) == (None, b'{"amount": "0.01"}', "yes")
