"""The tiers of the tests, one folder each, and the services that they need.

A test that this machine cannot run is skipped, and the summary says which and why. With REQUIRE_SERVICES=1
in the environment such a test fails instead: nothing may be missing where that is set.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy

from include.order_cancel.scripts import confinement

TESTS = Path(__file__).parent
TIERS = {
    "unit": "no Airflow, no services",
    "dags": "the DAGs in Airflow's DagBag",
    "integration": "flows over real HTTP, without Airflow",
    "page": "the page's web app over real HTTP; its libraries come with Airflow",
    "e2e": "a real Airflow, a browser",
    "cluster": "Airflow on PostgreSQL with Celery workers",
    "chaos": "crashes and faults",
}
NEED_AIRFLOW = ("dags", "page", "e2e", "cluster")
REQUIRED = os.environ.get("REQUIRE_SERVICES") == "1"
POSTGRES = os.environ.get("ORDER_CANCEL_TEST_POSTGRES") or "postgresql+psycopg://postgres@127.0.0.1:5432/test"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

NO_AIRFLOW = "Airflow is not installed" if importlib.util.find_spec("airflow") is None else None


def tier_of(path: Path) -> str | None:
    """The tier that a test file or folder belongs to."""
    parts = path.relative_to(TESTS).parts if path.is_relative_to(TESTS) else ()
    return parts[0] if parts and parts[0] in TIERS else None


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Without Airflow these tiers cannot even be imported: left out, or an error where all is required."""
    return True if NO_AIRFLOW and not REQUIRED and tier_of(collection_path) in NEED_AIRFLOW else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Where every service is required, a skipped test has failed."""
    report = yield
    if REQUIRED and report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome, report.longrepr = "failed", f"REQUIRE_SERVICES=1 forbids this: {reason}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What ran of each tier, and what did not and why."""
    ran: dict[str, Counter[str]] = defaultdict(Counter)
    reasons: dict[str, set[str]] = defaultdict(set)
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            tier = tier_of(terminalreporter.config.rootpath / report.nodeid.split("::")[0])
            if tier and (report.when == "call" or outcome != "passed"):
                ran[tier][outcome] += 1
            if tier and outcome == "skipped":
                reasons[tier].add(str(report.longrepr[2]).removeprefix("Skipped: "))
    terminalreporter.section("tiers")
    offers = f"Landlock {confinement.landlock_version() or 'none'}"
    terminalreporter.write_line(f"{'kernel':<12} {confinement.kernel()}, {offers}")
    for tier, what in TIERS.items():
        counts = ", ".join(f"{count} {outcome}" for outcome, count in ran[tier].items())
        why = "; ".join(sorted(reasons[tier])) or (NO_AIRFLOW if tier in NEED_AIRFLOW else None)
        line = f"{tier:<12} {counts or 'none run'} ({what})"
        terminalreporter.write_line(f"{line}. Skipped: {why}" if why else line)


@pytest.fixture(scope="session")
def postgres_server() -> sqlalchemy.URL:
    """A PostgreSQL on which databases may be made: the usual one, or ORDER_CANCEL_TEST_POSTGRES."""
    url = sqlalchemy.make_url(POSTGRES)
    try:
        with sqlalchemy.create_engine(url, connect_args={"connect_timeout": 5}).connect():
            return url
    except sqlalchemy.exc.OperationalError:
        pytest.skip(
            f"no PostgreSQL on {url.host}:{url.port or 5432}; ORDER_CANCEL_TEST_POSTGRES names another"
        )


@contextmanager
def fresh_database(server: sqlalchemy.URL) -> Iterator[str]:
    """The URL of an empty database, which is dropped in the end."""
    name = f"order_cancel_{uuid.uuid4().hex}"
    engine = sqlalchemy.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
        yield server.set(database=name).render_as_string(hide_password=False)
        connection.execute(sqlalchemy.text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def journal_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a journal that does not exist yet: every test that asks for it runs on both databases."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'order_cancel.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the machine's browser."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")


@pytest.fixture
def postgres_url(postgres_server: sqlalchemy.URL) -> Iterator[str]:
    """The URL of an empty database of the test's own."""
    with fresh_database(postgres_server) as url:
        yield url
