"""A real Airflow on loopback, for the demo and for end-to-end tests.

SQLite, LocalExecutor and the simple auth manager, in a home of its own that starts empty. The API server,
the scheduler and the dag-processor run as three processes; nothing here needs the triggerer. The scheduler
starts without its log server, which would listen on every interface: with one machine the API server reads
the log files themselves. All processes end with their owner, as `include.demo.processes` says.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import requests

from include.demo.processes import LOOPBACK, Kept, free_port

ROOT = Path(__file__).resolve().parents[2]
LOGIN, PASSWORD = "admin", "admin"
MARK = ".throwaway_airflow_home"
FINISHED = ("success", "failed")
COMPONENTS = ("api-server", "scheduler", "dag-processor")
OPTIONS = {"scheduler": ["--skip-serve-logs"]}
# What each task and each parse of a DAG file would import first: those processes are forked.
PRELOAD = ("include.order_cancel.airflow_bridge", "include.order_cancel.flow")
FORKING = {"scheduler", "dag-processor"}
DATABASE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
DATABASE_PATIENCE = 60  # seconds that a writer of Airflow's SQLite file waits for another one
# The API server may wait for itself: some of its requests wait in the event loop that another one needs for its commit.
API_PATIENCE = 5


class AirflowError(Exception):
    """Airflow did not start, died, refused a request, or did not get done in time."""


@dataclass
class AirflowServer:
    """An Airflow that runs between `start()` and `stop()`, or as long as a `with` block.

    `connections` are written as `airflow connections import` reads them, `variables` are texts by name, and
    `env` adds to the environment of every process: settings as `AIRFLOW__SECTION__KEY` win over the ones chosen
    here. No Airflow setting, Connection or Variable of the caller's own environment gets in. `say` hears of
    each step of the start; `environment` is what every process gets in the end. `preload` names modules that
    the scheduler and the dag-processor import, so that what is forked from them finds them loaded. `patience`:
    the seconds that each of SIGINT and SIGTERM may take in the end. `start()` empties `home`, which must be new,
    empty, or left by an earlier start.
    """

    home: Path
    dags: Path = ROOT / "dags"
    plugins: Path = ROOT / "plugins"
    port: int = field(default_factory=free_port)
    connections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    preload: Sequence[str] = PRELOAD
    patience: float = 5
    say: Callable[[str], None] = lambda _text: None
    processes: list[Kept] = field(default_factory=list, init=False)
    environment: dict[str, str] = field(init=False, repr=False)
    _token: str | None = field(default=None, init=False, repr=False)

    @property
    def url(self) -> str:
        """The address of the UI."""
        return f"http://{LOOPBACK}:{self.port}"

    def __post_init__(self) -> None:
        self.home = self.home.resolve()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        # Each task is a fresh interpreter: without bytecode it would compile what it imports.
        inherited.pop("PYTHONDONTWRITEBYTECODE", None)
        inherited["NO_PROXY"] = inherited["no_proxy"] = f"{LOOPBACK},localhost"
        self.environment = {**inherited, **self._settings(), **self.env}

    def _settings(self) -> dict[str, str]:
        sections: dict[str, dict[str, object]] = {
            "CORE": {
                "DAGS_FOLDER": self.dags,
                "PLUGINS_FOLDER": self.plugins,
                "LOAD_EXAMPLES": False,
                "EXECUTOR": "LocalExecutor",
                "PARALLELISM": 8,
                "FERNET_KEY": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
                "SIMPLE_AUTH_MANAGER_USERS": f"{LOGIN}:admin",
                "SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": self.home / "passwords.json",
                "EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            },
            "DATABASE": {
                "SQL_ALCHEMY_CONN": f"sqlite:///{self.home / 'airflow.db'}?timeout={DATABASE_PATIENCE}"
            },
            "LOGGING": {"BASE_LOG_FOLDER": self.home / "logs"},
            "API": {
                "HOST": LOOPBACK,
                "PORT": self.port,
                "BASE_URL": self.url,
                "WORKERS": 1,
                "SECRET_KEY": secrets.token_hex(32),
            },
            "API_AUTH": {"JWT_SECRET": secrets.token_hex(32)},
            "SCHEDULER": {"SCHEDULER_IDLE_SLEEP_TIME": 0.1, "ENABLE_HEALTH_CHECK": False},
            "DAG_PROCESSOR": {
                "DAG_BUNDLE_STORAGE_PATH": self.home / "bundles",
                "REFRESH_INTERVAL": 5,
                "MIN_FILE_PROCESS_INTERVAL": 5,
                "PARSING_PROCESSES": 1,
            },
        }
        named = {
            f"AIRFLOW__{section}__{key}": str(value)
            for section, keys in sections.items()
            for key, value in keys.items()
        }
        # Unlike Astro, plain Airflow puts only dags/ and plugins/ on the path, not the project.
        places = {"AIRFLOW_HOME": self.home, "TMPDIR": self.home / "tmp", "PYTHONPATH": ROOT}
        return {**{name: str(path) for name, path in places.items()}, **named}

    def start(self, timeout: float = 120) -> None:
        """Prepare the home, start the processes and wait until the API answers.

        Raises AirflowError when a process dies or `timeout` seconds pass; nothing is left running then."""
        try:
            self.say("preparing Airflow's database, Connections and Variables")
            self._prepare(timeout)
            self.say("starting Airflow's API server, scheduler and dag-processor")
            for component in COMPONENTS:
                self.launch(component)
            self._await(lambda: answers(f"{self.url}/api/v2/version"), "an API that answers", timeout)
        except BaseException:
            self.stop()
            raise

    def _prepare(self, timeout: float) -> None:
        self._empty_home()
        seeds = {
            "passwords.json": {LOGIN: PASSWORD},
            "connections.json": self.connections,
            "variables.json": self.variables,
        }
        for name, content in seeds.items():
            file = self.home / name
            file.touch(mode=0o600)
            file.write_text(json.dumps(content))
        self._write_local_settings()
        script = Path(__file__).with_name("prepare_airflow.py")
        files = (self.home / "connections.json", self.home / "variables.json")
        with self._kept("prepare", sys.executable, script, *files) as preparation:
            if preparation.wait(timeout) != 0:
                raise AirflowError(f"Airflow's database was not prepared:\n{preparation.tail()}")

    def _write_local_settings(self) -> None:
        # Every Airflow process reads this file.
        imports = (f"    import {name}" for name in self.preload)
        lines = ["import sys", f"if {FORKING!r} & set(sys.argv):", "    pass", *imports]
        config = self.home / "config"
        config.mkdir()
        (config / "airflow_local_settings.py").write_text("\n".join(lines) + "\n")

    def _empty_home(self) -> None:
        mark = self.home / MARK
        if self.home.exists() and any(self.home.iterdir()) and not mark.exists():
            raise AirflowError(f"{self.home} is not empty and was not made by this program: not touched")
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True, mode=0o700)
        mark.touch()
        (self.home / "tmp").mkdir()

    def _kept(self, name: str, *command: str | Path, environment: Mapping[str, str] | None = None) -> Kept:
        env = self.environment if environment is None else environment
        log = self.home / f"{name}.log"
        return Kept(command, env=env, log=log, cwd=self.home, patience=self.patience)

    def _await(self, happened: Callable[[], Any], what: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not happened():
            self.check()
            if time.monotonic() > deadline:
                raise AirflowError(f"no {what} within {timeout:g} s; the logs are in {self.home}")
            time.sleep(0.1)

    def check(self) -> None:
        """Raises AirflowError when one of the processes has ended by itself."""
        for process in self.processes:
            if process.exit_code is not None:
                raise AirflowError(f"Airflow's {process.name} ended:\n{process.tail()}")

    def stop(self) -> None:
        """End all processes and wait until nothing of them is left."""
        # Tasks that are ending still report to the API server: without it they would try for seconds.
        last = [process for process in self.processes if process.name == "api-server"]
        first = [process for process in self.processes if process not in last]
        for group in (first, last):
            for process in group:
                process.ask_to_stop()
            for process in group:
                process.stop()
        self.processes.clear()

    def kill(self, name: str) -> None:
        """End one component (`scheduler`, ...) and all that it started, as a crash would."""
        process = self.process(name)
        process.crash()
        self.processes.remove(process)

    def launch(self, name: str) -> None:
        """Start one component (again), with whatever `environment` says now."""
        command = (sys.executable, "-m", "airflow", name, *OPTIONS.get(name, ()))
        environment = dict(self.environment)
        if name == "api-server":
            ours = (f"?timeout={DATABASE_PATIENCE}", f"?timeout={API_PATIENCE}")
            environment[DATABASE] = environment[DATABASE].replace(*ours)
        self.processes.append(self._kept(name, *command, environment=environment))

    def process(self, name: str) -> Kept:
        """The process of a component; raises KeyError when it was not started."""
        return {process.name: process for process in self.processes}[name]

    def api(
        self, method: str, path: str, body: Any = None, *, params: Mapping[str, str | int] | None = None
    ) -> Any:
        """The JSON answer of `/api/v2<path>`, None for an empty one.

        Raises AirflowError with the answer's text for any status from 400 on."""
        deadline = time.monotonic() + DATABASE_PATIENCE
        while True:
            answer = requests.request(
                method,
                f"{self.url}/api/v2{path}",
                json=body,
                params=params,
                headers={"Authorization": f"Bearer {self.token()}"},
                timeout=2 * DATABASE_PATIENCE,
            )
            if not _was_locked_out(answer) or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        if not answer.ok:
            raise AirflowError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json() if answer.content else None

    def token(self) -> str:
        """A token for `/api/v2` of the one user there is, asked for once."""
        if self._token is None:
            login = {"username": LOGIN, "password": PASSWORD}
            answer = requests.post(f"{self.url}/auth/token", json=login, timeout=30)
            if not answer.ok:
                raise AirflowError(f"no token: {answer.status_code} {answer.text}")
            self._token = str(answer.json()["access_token"])
        return self._token

    def set_variable(self, name: str, value: str) -> None:
        """Create or replace a Variable."""
        body = {"key": name, "value": value}
        if any(found["key"] == name for found in self.pages("/variables", "variables")):
            self.api("PATCH", f"/variables/{quote(name)}", body)
        else:
            self.api("POST", "/variables", body)

    def variable(self, name: str) -> str | None:
        """A Variable's text, or None."""
        found = {row["key"]: row["value"] for row in self.pages("/variables", "variables")}
        value: str | None = found.get(name)
        return value

    def delete_variable(self, name: str) -> None:
        """Remove a Variable, where there is one."""
        if self.variable(name) is not None:
            self.api("DELETE", f"/variables/{quote(name)}")

    def has_dag(self, dag_id: str) -> bool:
        """Whether the dag-processor has brought this DAG."""
        return any(found["dag_id"] == dag_id for found in self.pages("/dags", "dags"))

    def import_errors(self) -> list[str]:
        """What the dag-processor could not import, as texts."""
        return [
            f"{row['filename']}: {row['stack_trace']}" for row in self.pages("/importErrors", "import_errors")
        ]

    def wait_for_dag(self, dag_id: str, timeout: float = 60) -> None:
        """Return once the DAG is there; raises AirflowError when a file cannot be imported or time is up."""

        def there() -> bool:
            if errors := self.import_errors():
                raise AirflowError("\n".join(errors))
            return self.has_dag(dag_id)

        self._await(there, f"DAG {dag_id}", timeout)

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Unpause the DAG if need be and start a run with these Params; the run's id."""
        self.api("PATCH", f"/dags/{dag_id}", {"is_paused": False})
        body = {"logical_date": None, "conf": dict(conf or {})}
        return str(self.api("POST", f"/dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """The run as the API tells it: `state`, `start_date`, `end_date`, `conf`, ..."""
        answer: dict[str, Any] = self.api("GET", f"/dags/{dag_id}/dagRuns/{quote(run_id)}")
        return answer

    def wait(self, dag_id: str, run_id: str, timeout: float = 180) -> str:
        """The run's final state, `success` or `failed`; raises AirflowError when time is up."""
        self._await(lambda: self.run(dag_id, run_id)["state"] in FINISHED, f"end of {run_id}", timeout)
        return str(self.run(dag_id, run_id)["state"])

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """All task instances of a run: `task_id`, `map_index`, `rendered_map_index`, `state`, ..."""
        return list(self.pages(f"/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances", "task_instances"))

    def states(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        """States by `<task>` or, for a mapped index, `<task>[<map index>]`."""
        return {_label(found): found["state"] for found in self.task_instances(dag_id, run_id)}

    def clear(
        self,
        dag_id: str,
        run_id: str,
        tasks: Iterable[str | tuple[str, int]],
        *,
        downstream: bool = True,
        only_failed: bool = False,
    ) -> list[dict[str, Any]]:
        """Clear tasks, or single mapped indexes as `(task, map index)`, so that they run again.

        Returns the task instances that were cleared."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": [list(task) if isinstance(task, tuple) else task for task in tasks],
            "include_downstream": downstream,
            "only_failed": only_failed,
            "reset_dag_runs": True,
        }
        cleared: list[dict[str, Any]] = self.api("POST", f"/dags/{dag_id}/clearTaskInstances", body)[
            "task_instances"
        ]
        return cleared

    def log(self, instance: Mapping[str, Any], try_number: int | None = None) -> str:
        """The log of a task instance from `task_instances()`, one line per event, groups' titles included."""
        path = (
            f"/dags/{instance['dag_id']}/dagRuns/{quote(instance['dag_run_id'])}/taskInstances/"
            f"{instance['task_id']}/logs/{try_number or instance['try_number']}"
        )
        params = {"map_index": instance["map_index"], "full_content": "true"}
        content = self.api("GET", path, params=params)["content"]
        return "\n".join(line if isinstance(line, str) else _log_line(line) for line in content)

    def pages(self, path: str, key: str) -> Iterator[dict[str, Any]]:
        """Every row of a list, however many pages it has; `key` names the rows in the answer."""
        offset = 0
        while True:
            answer = self.api("GET", path, params={"limit": 100, "offset": offset})
            yield from answer[key]
            offset += len(answer[key])
            if not answer[key] or offset >= answer["total_entries"]:
                return

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def answers(url: str) -> bool:
    """Whether a GET of this address is answered with success now."""
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


def _was_locked_out(answer: requests.Response) -> bool:
    """Whether the scheduler was writing to the SQLite file: Airflow has rolled the request back, it may come again."""
    return answer.status_code == 500 and '"reason":"Database error"' in answer.text


def _label(instance: Mapping[str, Any]) -> str:
    index = instance["map_index"]
    return instance["task_id"] if index < 0 else f"{instance['task_id']}[{index}]"


def _log_line(line: Mapping[str, Any]) -> str:
    details = line.get("error_detail") or []
    causes = [f"{cause.get('exc_type')}: {cause.get('exc_value')}" for cause in details]
    return "\n".join([str(line.get("event", "")), *causes])
