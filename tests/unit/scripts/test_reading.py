"""Which form a script has, and what is said of one that has none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.order_cancel.errors import ScriptFailed
from include.order_cancel.scripts.default_response import DEFAULT_RESPONSE_SCRIPT
from include.order_cancel.scripts.reading import Kind, form_of, imports, parse
from tests.shares import examples

CALLBACK = "class Change:\n    def process(self, inputStream, outputStream):\n        pass\n"


def problem(text: str, kind: Kind = "script") -> str:
    with pytest.raises(ScriptFailed) as caught:
        form_of(text, kind)
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
        said = form_of(text, kind) in ("integrator", "plain")
    except ScriptFailed as error:
        said = bool(str(error))

    assert said
