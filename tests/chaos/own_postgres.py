"""A PostgreSQL of one's own, which may be killed: a data directory, a port and a server process."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import sqlalchemy

from include.demo.processes import LOOPBACK, Kept, free_port

_PLACES = Path("/usr/lib/postgresql")
_PATIENCE_SECONDS = 60.0


def binaries() -> Path | None:
    """The folder with the newest `postgres` of this machine, None where there is none."""
    found = [folder for folder in _PLACES.glob("*/bin") if (folder / "initdb").exists()]
    return max(found, key=lambda folder: float(folder.parent.name), default=None)


class OwnPostgres:
    """A server between `with` and its end, usually settings, every commit synced. `url` is its one database."""

    def __init__(self) -> None:
        """Raises FileNotFoundError where no PostgreSQL is installed."""
        self._binaries = binaries()
        if self._binaries is None:
            raise FileNotFoundError(f"no PostgreSQL below {_PLACES}")
        self.port = free_port()
        self.url = f"postgresql+psycopg://postgres@{LOOPBACK}:{self.port}/postgres"
        self._server: Kept | None = None

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="order_cancel_postgres_"))
        try:
            self._prepare()
            self.start()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def start(self) -> None:
        """Start the server and wait until it takes connections. After a kill it recovers by itself."""
        options = {"listen_addresses": LOOPBACK, "unix_socket_directories": str(self._folder)}
        settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        command = self._as_postgres("postgres", "-D", str(self._data), "-p", str(self.port), *settings)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        self._server = self._launch(command)
        while not self._answers():
            if self._server.exit_code is not None:  # the killed server's memory may not be free yet
                time.sleep(0.5)
                self._server = self._launch(command)
            if time.monotonic() > deadline:
                raise TimeoutError(f"PostgreSQL does not answer:\n{self._server.tail()}")
            time.sleep(0.1)

    def kill(self) -> None:
        """End the server and all its backends as a power cut would, as far as processes go."""
        if self._server is not None:
            self._server.crash()
            self._server = None

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _prepare(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self._folder, "postgres", "postgres")
        command = self._as_postgres(
            "initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale"
        )
        subprocess.run(command, check=True, capture_output=True, cwd=self._folder, timeout=_PATIENCE_SECONDS)

    def _as_postgres(self, program: str, *words: str) -> Sequence[str]:
        assert self._binaries is not None
        command = [str(self._binaries / program), *words]
        runuser = shutil.which("runuser") or "/usr/sbin/runuser"
        return [runuser, "-u", "postgres", "--", *command] if os.geteuid() == 0 else command

    def _launch(self, command: Sequence[str]) -> Kept:
        return Kept(command, env=os.environ, log=self._folder / "postgres.log", cwd=self._folder)

    def _answers(self) -> bool:
        engine = sqlalchemy.create_engine(self.url, connect_args={"connect_timeout": 5})
        try:
            with engine.connect():
                return True
        except sqlalchemy.exc.OperationalError:
            return False
        finally:
            engine.dispose()

    def _leave(self) -> None:
        if self._server is not None:
            self._server.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
