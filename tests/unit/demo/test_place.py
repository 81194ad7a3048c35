"""The demo's directory and ports, and what Airflow hears of them."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from include.demo.airflow_server import ROOT
from include.demo.outcome import expected
from include.demo.place import Place, PlaceError, check_ports, locked, place_from, read_airflow_settings
from include.demo.processes import free_port
from include.order_cancel.settings import loads


def test_without_environment_the_demo_runs_below_the_repository() -> None:
    place = place_from({})

    assert place == Place(ROOT / ".run", ui=8080, omnitron=8081, erp=8082)


def test_directory_and_ports_come_from_the_environment(tmp_path: Path) -> None:
    place = place_from({"DEMO_DIR": str(tmp_path), "DEMO_PORT_UI": "9001", "DEMO_PORT_ERP": "9003"})

    assert place == Place(tmp_path, ui=9001, omnitron=8081, erp=9003)


@pytest.mark.parametrize("text", ["0", "65536", "-1", "http", "8080.5", "٨٠٨٠"])
def test_a_port_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(PlaceError, match=f"DEMO_PORT_UI='{text}' is not a port"):
        place_from({"DEMO_PORT_UI": text})


def test_every_taken_port_is_said_by_number(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        place = Place(tmp_path, first.getsockname()[1], free_port(), second.getsockname()[1])

        with pytest.raises(
            PlaceError, match=f"port {place.ui} and {place.erp}\\. Choose others: DEMO_PORT_UI="
        ):
            check_ports(place)


def test_one_port_for_two_servers_is_refused(tmp_path: Path) -> None:
    port = free_port()

    with pytest.raises(PlaceError, match="the ports must differ"):
        check_ports(Place(tmp_path, port, port, port + 1))


def test_a_second_demo_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(PlaceError, match="another demo runs in"), locked(tmp_path):
        pass


def test_the_demo_connections_point_at_the_simulators() -> None:
    place = Place(ROOT, ui=1, omnitron=2, erp=3)

    settings = read_airflow_settings(ROOT / "airflow_settings.yaml", place)

    assert {name: found["host"] for name, found in settings.connections.items()} == {
        "omnitron": "http://127.0.0.1:2",
        "erp": "http://127.0.0.1:3",
    }
    assert settings.connections["erp"]["conn_type"] == "http"


def test_every_demo_flow_has_settings() -> None:
    settings = read_airflow_settings(ROOT / "airflow_settings.yaml", Place(ROOT, 1, 2, 3))

    flows = json.loads(settings.variables["order_cancel_flows"])

    assert set(settings.variables) == {
        "order_cancel_flows",
        *(f"order_cancel_flow__{flow}" for flow in flows),
    }


def test_every_demo_flow_is_valid_without_a_warning_and_has_an_expected_outcome() -> None:
    variables = read_airflow_settings(ROOT / "airflow_settings.yaml", Place(ROOT, 1, 2, 3)).variables
    flows = json.loads(variables["order_cancel_flows"])

    settings = {
        flow: loads(variables[f"order_cancel_flow__{flow}"], flow=flow, files=ROOT / "include" / "flows")
        for flow in flows
    }

    assert flows == list(expected())
    assert [found.warnings for found in settings.values()] == [()] * len(flows)
    assert {found.omnitron.cancel_status for found in settings.values()} == {
        "waiting",
        "completed",
        "order_transaction",
    }
