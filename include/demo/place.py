"""Where the demo runs: its directory, its ports, and what Airflow is to know of them."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from include.demo.airflow_server import ROOT
from include.demo.processes import LOOPBACK, is_free

PORTS = {"DEMO_PORT_UI": 8080, "DEMO_PORT_OMNITRON": 8081, "DEMO_PORT_ERP": 8082}


class PlaceError(Exception):
    """The demo cannot run here; the message says why and what to change."""


@dataclass(frozen=True)
class Place:
    """A directory that the demo may fill, and three loopback ports."""

    directory: Path
    ui: int
    omnitron: int
    erp: int

    @property
    def ports(self) -> dict[str, int]:
        """The ports by the environment variable that sets each."""
        return dict(zip(PORTS, (self.ui, self.omnitron, self.erp), strict=True))


def place_from(environment: Mapping[str, str]) -> Place:
    """Read `DEMO_DIR` and `DEMO_PORT_*`; raises PlaceError for a port that is none."""
    ports = (_port(name, environment.get(name) or str(usual)) for name, usual in PORTS.items())
    return Place((ROOT / (environment.get("DEMO_DIR") or ".run")).resolve(), *ports)


def _port(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise PlaceError(f"{name}={text!r} is not a port: give a number from 1 to 65535")
    return int(text)


def check_ports(place: Place) -> None:
    """Raises PlaceError naming every port that is taken, or given twice."""
    if len(set(place.ports.values())) < len(place.ports):
        raise PlaceError(f"the ports must differ: {_assignments(place.ports)}")
    taken = {name: port for name, port in place.ports.items() if not is_free(port)}
    if taken:
        numbers = " and ".join(str(port) for port in taken.values())
        raise PlaceError(
            f"taken by another program: port {numbers}. Choose others: {_assignments(taken, 100)}"
        )


def _assignments(ports: Mapping[str, int], further: int = 0) -> str:
    return " ".join(f"{name}={port + further}" for name, port in ports.items())


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the directory, which is made if need be; raises PlaceError when another demo holds it."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PlaceError(f"another demo runs in {directory}: choose another DEMO_DIR") from None
        yield


@dataclass(frozen=True)
class AirflowSettings:
    """Connections and Variables, in the forms that Airflow's own import commands read."""

    connections: dict[str, dict[str, Any]]
    variables: dict[str, str]


def read_airflow_settings(file: Path, place: Place) -> AirflowSettings:
    """Astro's `airflow_settings.yaml`, with the hosts of the simulators put to this place's ports."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))["airflow"]
    hosts = {"omnitron": place.omnitron, "erp": place.erp}
    connections = {}
    for entry in content["connections"]:
        name = entry["conn_id"]
        # Astro's names are those of Airflow's import with `conn_` before them.
        given = {key.removeprefix("conn_"): value for key, value in entry.items() if key != "conn_id"}
        connections[name] = {key: value for key, value in given.items() if value is not None}
        connections[name]["conn_type"] = connections[name].pop("type")
        if name in hosts:
            connections[name]["host"] = f"http://{LOOPBACK}:{hosts[name]}"
    variables = {entry["variable_name"]: entry["variable_value"] for entry in content["variables"]}
    return AirflowSettings(connections, variables)
