"""Ways out of the script process, each tried against the kernel's bars alone: without the guard's audit hook.

What the kernel must refuse is tried without confinement first, where that can work on any machine: an attempt
that fails anyway would show nothing.
"""

from __future__ import annotations

import asyncio
import http.server
import json
import logging
import os
import platform
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from include.order_cancel.errors import ScriptFailed
from include.order_cancel.scripts import confinement, guard
from include.order_cancel.scripts import process as process_module
from include.order_cancel.scripts.process import Limits, ScriptProcess

PROJECT = Path(__file__).parents[3]
ECHO = "def transform(plan, attributes):\n    return plan\n"
KERNEL = confinement.kernel()
LANDLOCK = confinement.landlock_version()
confines = pytest.mark.skipif(
    LANDLOCK < 3 or platform.machine() not in ("x86_64", "aarch64"),
    reason=f"{KERNEL} offers Landlock {LANDLOCK}, and version 3 and seccomp are needed",
)

# Confines itself, as the child does, and then runs the attempt, with the C library at hand.
DRIVER = """
import ctypes, json, os, sys
given = json.loads(sys.argv[1])
sys.path[:0] = [given["project"]]
from include.order_cancel.scripts import confinement
libc = ctypes.CDLL(None, use_errno=True)
machine = 0 if os.uname().machine == "x86_64" else 1

def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

def call(number, *arguments):
    number = number[machine] if isinstance(number, tuple) else number
    return checked(libc.syscall(*(ctypes.c_long(each) if isinstance(each, int) else each
                                  for each in (number, *arguments))))

statm = open("/proc/self/statm")
os.chdir(given["scratch"])
confinement.confine(given["policy"], scratch=given["scratch"], network=given["network"],
                    readable=confinement.readable_paths(given["project"], []))
place, victim = given["place"], given["victim"]
try:
    exec(given["attempt"])
except OSError as error:
    print("refused:", error.errno, error)
else:
    print("got out")
sys.stdout.flush()
os._exit(0)
"""


class Attempt(NamedTuple):
    """Python that raises OSError where it is refused. `portable`: unconfined it works on every machine."""

    name: str
    code: str
    portable: bool = True
    network: bool = True


ATTEMPTS = [
    Attempt("read the users of the machine", "open('/etc/passwd').read()"),
    Attempt("read Airflow's configuration", "open(place + '/airflow.cfg').read()"),
    Attempt("read the journal", "open(place + '/order_cancel.db', 'rb').read()"),
    Attempt("read the project", "open(given['project'] + '/README.md').read()"),
    Attempt("read a flow's files", "os.listdir(given['project'] + '/include/flows')"),
    Attempt("read by the C library", "checked(libc.open(b'/etc/passwd', 0))"),
    Attempt("read by a symbolic link", "os.symlink(place + '/airflow.cfg', 'a'); open('a').read()"),
    Attempt("read by a hard link", "os.link(place + '/airflow.cfg', 'a')", portable=False),
    Attempt("move it in", "os.rename(place + '/airflow.cfg', 'a')", portable=False),
    Attempt("read by the root in /proc", "open('/proc/self/root' + place + '/airflow.cfg').read()"),
    Attempt("read below a folder's descriptor",
            "os.open('etc/passwd', os.O_RDONLY, dir_fd=os.open('/', os.O_PATH))"),
    Attempt("reopen a path's descriptor",
            "open('/proc/self/fd/%d' % os.open(place + '/airflow.cfg', os.O_PATH)).read()"),
    Attempt("list a folder", "os.listdir(place)"),
    Attempt("write to the folder of temporary files",
            "import tempfile; os.remove(tempfile.mkstemp(dir=given['temporary'])[1])"),
    Attempt("write to the project", "open(given['project'] + '/README.md', 'a').close()"),
    Attempt("write to what imports read",
            "open(given['project'] + '/include/order_cancel/__init__.py', 'a').close()"),
    Attempt("empty the journal", "os.truncate(place + '/order_cancel.db', 0)"),
    Attempt("delete the journal", "os.remove(place + '/order_cancel.db')"),
    Attempt("open the journal to everybody", "os.chmod(place + '/order_cancel.db', 0o666)"),
    Attempt("give the journal away", "os.chown(place + '/order_cancel.db', os.getuid(), os.getgid())"),
    Attempt("date the journal back", "os.utime(place + '/order_cancel.db', (1, 1))"),
    Attempt("make a folder elsewhere", "os.mkdir(place + '/new')"),
    Attempt("make a pipe elsewhere", "os.mkfifo(place + '/new')"),
    Attempt("read the environment of process 1", "open('/proc/1/environ', 'rb').read()", portable=False),
    Attempt("read the parent's environment", "open('/proc/%d/environ' % victim, 'rb').read()"),
    Attempt("open the parent's memory", "open('/proc/%d/mem' % victim, 'rb')", portable=False),
    Attempt("write to its own memory", "open('/proc/self/mem', 'r+b')"),
    Attempt("read the parent's memory",
            "here = ctypes.create_string_buffer(16); "
            "call((310, 270), victim, ctypes.byref(here), 1, ctypes.byref(here), 1, 0)", portable=False),
    Attempt("trace the parent", "call((101, 117), 0x4206, victim, 0, 0)", portable=False),
    Attempt("fork", "os.fork() or os._exit(0)"),
    Attempt("fork by clone", "call((56, 220), 17, 0, 0, 0, 0) or os._exit(0)"),
    Attempt("fork by clone3",
            "call(435, (ctypes.c_uint64 * 8)(0, 0, 0, 0, 17, 0, 0, 0), 64) or os._exit(0)"),
    Attempt("run a program by the shell", "if os.system('true'): raise PermissionError(1, 'no shell')"),
    Attempt("run a program", "import subprocess; subprocess.run(['/bin/true'])"),
    Attempt("become a program", "os.execv('/bin/true', ['true'])", portable=False),
    Attempt("become a program in memory",
            "there = os.memfd_create('a'); os.write(there, open('/lib64/ld-linux-x86-64.so.2', 'rb').read()"
            " if not machine else b'x'); os.execve(there, ['a'], {})", portable=False),
    Attempt("signal the parent", "os.kill(victim, 0)"),
    Attempt("signal everybody", "os.kill(-1, 0)", portable=False),
    Attempt("signal a thread of the parent", "call((234, 131), victim, victim, 0)"),
    Attempt("signal the parent by its descriptor", "os.pidfd_open(victim)"),
    Attempt("have the parent signalled", "import fcntl, socket; "
            "fcntl.fcntl(socket.socketpair()[0], fcntl.F_SETOWN, victim)"),
    Attempt("limit the parent", "import resource; resource.prlimit(victim, resource.RLIMIT_CORE)"),
    Attempt("slow the parent down", "os.setpriority(os.PRIO_PROCESS, victim, 0)"),
    Attempt("outlive the parent", "checked(libc.prctl(1, 0, 0, 0, 0))"),
    Attempt("speak to an abstract socket", "import socket; "
            "socket.socket(socket.AF_UNIX).connect('\\0' + given['abstract'])"),
    Attempt("speak to a socket by its path", "import socket; "
            "socket.socket(socket.AF_UNIX).connect(place + '/socket')"),
    Attempt("speak to a socket by another end", "import socket; "
            "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b'', place + '/letters')"),
    Attempt("change the network", "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)"),
    Attempt("listen to all packets", "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
            portable=False),
    Attempt("use the network where it is off", "import socket; "
            "socket.socket().connect(('127.0.0.1', given['port']))", network=False),
    Attempt("listen where the network is off", "import socket; "
            "socket.create_server(('127.0.0.1', 0))", network=False),
    Attempt("send packets where the network is off", "import socket; "
            "socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('127.0.0.1', 9))", network=False),
    Attempt("share memory by number", "call((29, 194), 0, 4096, 0o600)"),
    Attempt("open a message queue", "call((240, 180), b'order-cancel-none', 0, 0, 0)", portable=False),
    Attempt("submit calls by io_uring", "call(425, 1, (ctypes.c_char * 120)())", portable=False),
    Attempt("mount", "call((165, 40), b'none', given['scratch'].encode(), b'tmpfs', 0, None)",
            portable=False),
    Attempt("make a namespace", "call((272, 97), 0x10000000)", portable=False),
    Attempt("change the root", "call((161, 51), given['scratch'].encode())", portable=False),
    Attempt("load a program into the kernel", "call((321, 280), 0, (ctypes.c_char * 128)(), 128)",
            portable=False),
    Attempt("watch page faults", "call((323, 282), 1)", portable=False),
    Attempt("use keys of the session", "call((250, 219), 0, -3, 1)", portable=False),
    Attempt("set the clock", "call((227, 112), 0, None)", portable=False),
    Attempt("open a file by its handle", "call((304, 265), -100, (ctypes.c_char * 64)(), 0)",
            portable=False),
    Attempt("use the second set of calls", "call(0x40000000 | 39)", portable=False),
]  # fmt: skip


class Surroundings(NamedTuple):
    """What stands around an attempt, for it to reach for."""

    place: Path
    port: int
    abstract: str


@pytest.fixture
def around(tmp_path: Path) -> Iterator[Surroundings]:
    """Files, and servers on sockets of every kind."""
    place = Path(tempfile.mkdtemp())  # a short path, since a socket's is limited
    (place / "airflow.cfg").write_text("fernet_key = secret", "utf-8")
    (place / "order_cancel.db").write_bytes(b"customers")
    abstract = f"order-cancel-{os.getpid()}-{place.name}"
    unix, hidden, letters = (
        socket.socket(socket.AF_UNIX, kind)
        for kind in (socket.SOCK_STREAM, socket.SOCK_STREAM, socket.SOCK_DGRAM)
    )
    with unix, hidden, letters, socket.create_server(("127.0.0.1", 0)) as tcp:
        for server, address in ((unix, str(place / "socket")), (hidden, f"\0{abstract}")):
            server.bind(address)
            server.listen()
        letters.bind(str(place / "letters"))
        yield Surroundings(place, tcp.getsockname()[1], abstract)
    shutil.rmtree(place)


def tried(attempt: Attempt, around: Surroundings, scratch: Path, policy: str) -> str:
    """What came of the attempt in a process of its own; its parent is this test."""
    scratch.mkdir()
    given = {
        "project": str(PROJECT),
        "temporary": tempfile.gettempdir(),
        "scratch": str(scratch),
        "place": str(around.place),
        "port": around.port,
        "abstract": around.abstract,
        "victim": os.getpid(),
        "policy": policy,
        "network": attempt.network,
        "attempt": attempt.code,
    }
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", DRIVER, json.dumps(given)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ran.stdout.strip() or f"ended with {ran.returncode}: {ran.stderr.strip()}"


@confines
@pytest.mark.parametrize("attempt", ATTEMPTS, ids=[attempt.name for attempt in ATTEMPTS])
def test_the_kernel_refuses_to(attempt: Attempt, around: Surroundings, tmp_path: Path) -> None:
    confined = tried(attempt, around, tmp_path / "confined", "required")
    untouched = (around.place / "order_cancel.db").read_bytes()
    free = tried(attempt, around, tmp_path / "free", "off") if attempt.portable else "got out"

    assert confined.startswith("refused:"), f"on {KERNEL}: {confined}"
    assert confined.split()[1] in {"1", "13", "18", "38"}, confined  # EPERM, EACCES, EXDEV, ENOSYS
    assert untouched == b"customers"
    assert free == "got out", f"unconfined, this must work, or it shows nothing: {free}"


def run(call: Callable[[ScriptProcess], Awaitable[Any]], limits: Limits | None = None) -> Any:
    async def within() -> Any:
        async with ScriptProcess(limits or Limits(confinement="required")) as process:
            return await call(process)

    return asyncio.run(within())


def script(body: str) -> str:
    return "def transform(plan, attributes):\n" + "".join(f"    {line}\n" for line in body.splitlines())


@confines
def test_a_script_reads_neither_the_machines_files_nor_the_projects() -> None:
    text = script(
        """
import os
told = []
for path in plan:
    try:
        told.append(os.listdir(path) if os.path.isdir(path) else open(path).read())
    except OSError as error:
        told.append(error.strerror)
return told"""
    )
    paths = ["/etc/passwd", str(PROJECT), str(PROJECT / "pyproject.toml"), tempfile.gettempdir(), __file__]

    found = run(lambda process: process.run("script", text, paths, {})).result

    assert found == ["Permission denied"] * len(paths)


@confines
@pytest.mark.parametrize("network", [True, False])
def test_what_scripts_import_is_there(network: bool) -> None:
    text = script(
        """
import csv, datetime, decimal, hashlib, os, sqlite3, ssl, tempfile, threading, time, uuid, zipfile, zoneinfo
from concurrent.futures import ThreadPoolExecutor
import pendulum, requests
with tempfile.TemporaryDirectory() as folder:
    with open(os.path.join(folder, "a"), "w") as file:
        file.write("kept")
    os.rename(os.path.join(folder, "a"), os.path.join(folder, "b"))
    with open(os.path.join(folder, "b")) as file:
        kept = file.read()
with ThreadPoolExecutor(4) as pool:
    squares = list(pool.map(lambda number: number ** 2, range(4)))
day = pendulum.datetime(2026, 7, 1, tz="Europe/Istanbul").in_timezone("UTC").to_iso8601_string()
zone = str(datetime.datetime(2026, 7, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")).utcoffset())
return [kept, squares, day, zone, ssl.create_default_context().cert_store_stats()["x509_ca"] > 0,
        os.path.getsize(requests.certs.where()) > 0, len(os.urandom(4))]"""
    )

    async def call(process: ScriptProcess) -> tuple[Any, int]:
        results = [await process.run("script", text, {}, {}) for _ in range(3)]
        return results, process.starts

    results, starts = run(call, Limits(network=network, confinement="required"))

    assert results[0].result == [
        "kept", [0, 1, 4, 9], "2026-06-30T21:00:00Z", "2:00:00", True, True, 4,
    ]  # fmt: skip
    assert (starts, results[2].log) == (1, [])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the key and the certificate of `localhost`, signed by itself."""
    folder = tmp_path_factory.mktemp("tls")
    both, key, signed = folder / "both.pem", folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",  # noqa: S607
         "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", key, "-out", signed],
        check=True,
        capture_output=True,
    )  # fmt: skip
    both.write_text(key.read_text() + signed.read_text())
    return both


@contextmanager
def https(certificate: Path) -> Iterator[int]:
    """The port of a server that answers every request over TLS."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_: Any) -> None:
            """Nothing to tell."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@confines
def test_a_confined_script_asks_a_server_over_tls(certificate: Path) -> None:
    text = script(
        """
import requests
with open("authority.pem", "w") as file:
    file.write(plan["authority"])
known = requests.get(plan["url"], verify="authority.pem", timeout=20).text
try:
    requests.get(plan["url"], timeout=20)
except requests.exceptions.SSLError as error:
    return [known, "certificate verify failed" in str(error)]"""
    )
    signed = certificate.read_text()
    authority = signed[signed.index("-----BEGIN CERTIFICATE") :]
    with https(certificate) as port:
        plan = {"url": f"https://localhost:{port}/", "authority": authority}
        result = run(lambda process: process.run("script", text, plan, {})).result

    assert result == ["hello", True]


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254", "2852039166", "0xA9FEA9FE", "0251.0376.0251.0376", "169.254.43518",
        "::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "64:ff9b::a9fe:a9fe", "fd00:ec2::254",
        "FD00:0ec2:0:0::254", "169.254.170.2", "169.254.170.23", "100.100.100.200",
    ],
)  # fmt: skip
def test_a_metadata_address_is_refused_however_it_is_written(host: str) -> None:
    text = script(
        """
import socket
told = []
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    with socket.socket(socket.AF_INET6 if ":" in plan else socket.AF_INET, kind) as each:
        each.settimeout(1)
        for ask in (each.connect, lambda address: each.sendto(b"", address),
                    lambda address: each.sendmsg([b""], [], 0, address)):
            try:
                ask((plan, 80))
            except OSError as error:
                told.append(str(error))
return told"""
    )

    told = run(lambda process: process.run("script", text, host, {}), Limits()).result

    assert told == ["a script cannot ask a cloud's metadata service"] * 6


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "::1", "169.254.1.1", "fe80::1%lo", "localhost", "", "no such"]
)
def test_other_addresses_are_no_metadata(host: str) -> None:
    assert not guard._is_metadata((host, 80))


def test_what_holds_is_told_once_for_a_task(caplog: pytest.LogCaptureFixture) -> None:
    async def call(process: ScriptProcess) -> int:
        for _ in range(2):
            await process.run("script", ECHO, 1, {})
            await process.close()
        return process.starts

    with caplog.at_level(logging.INFO):
        starts = run(call, Limits(confinement="best_effort"))

    told = [record.message for record in caplog.records if "confine" in record.message]
    assert (starts, len(told)) == (2, 1)
    assert told[0].startswith(f"{KERNEL} confines scripts: ")


def test_confinement_that_is_off_is_told_and_off(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        found = run(
            lambda process: process.run("script", script("return open('/etc/passwd').read(4)"), 1, {}),
            Limits(confinement="off"),
        )

    assert found.result
    assert "scripts.confinement is off" in caplog.text


@pytest.fixture
def old_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A child that sees a kernel with neither Landlock nor seccomp filters."""
    child = tmp_path / "child.py"
    child.write_text(
        f"""
import runpy, sys
sys.path.append({str(PROJECT)!r})
from include.order_cancel.scripts import confinement
confinement.landlock_version = lambda: 0
confinement._filter_calls = lambda **_: False
runpy.run_path({str(process_module._CHILD)!r}, run_name="__main__")
""",
        "utf-8",
    )
    monkeypatch.setattr(process_module, "_CHILD", child)


LACKS = "lacks Landlock 3 (it has none) and seccomp filters"


@pytest.mark.usefixtures("old_kernel")
def test_a_kernel_that_lacks_it_runs_no_script_where_confinement_is_required() -> None:
    async def call(process: ScriptProcess) -> str:
        with pytest.raises(ScriptFailed) as caught:
            await process.run("script", ECHO, 1, {})
        return str(caught.value)

    told = run(call)

    assert f"scripts.confinement is required, and {KERNEL} {LACKS}" in told


@pytest.mark.usefixtures("old_kernel")
def test_a_kernel_that_lacks_it_goes_on_at_best_effort_and_warns(caplog: pytest.LogCaptureFixture) -> None:
    found = run(lambda process: process.run("script", ECHO, 1, {}), Limits(confinement="best_effort"))

    assert found.result == 1
    assert f"{KERNEL} confines scripts: nothing; it {LACKS}" in caplog.text


def test_files_that_a_script_leaves_do_not_reach_the_next_plan() -> None:
    keep = script("open('kept', 'w').close()\nreturn 1")
    look = script("import os\nreturn os.listdir()")

    async def call(process: ScriptProcess) -> tuple[Any, ...]:
        kept = await process.run("script", keep, 1, {})
        looked = await process.run("script", look, 1, {})
        return kept.log, looked.result, process.starts

    assert run(call, Limits()) == (["(the script's process was replaced: files in its folder)"], [], 2)


def test_the_scratch_folder_goes_with_its_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    where = script("import os\nopen('kept', 'w').close()\nreturn os.getcwd()")

    result = run(lambda process: process.run("script", where, 1, {}), Limits()).result

    assert Path(result).parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_every_call_of_the_filter_is_named_once() -> None:
    for column in (0, 1):
        numbers = [
            numbers[column] for numbers in confinement._REFUSED.values() if numbers[column] is not None
        ]
        assert len(numbers) == len(set(numbers))
