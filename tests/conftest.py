"""The tiers of the tests, one folder each, the services that they need, and which share of them runs.

A test that this machine cannot run is skipped, and the summary says which and why. With REQUIRE_SERVICES=1
in the environment such a test fails instead: nothing may be missing where that is set. tests/README.md explains
`--share` and the mark `thorough`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import sqlalchemy

from include.order_cancel import schema
from include.order_cancel.journal import Journal
from include.order_cancel.scripts import confinement
from tests.databases import POSTGRES, fresh_database, postgres_answers
from tests.shares import QUICK

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
WITH_AN_AIRFLOW = ("tests/e2e/", "tests/cluster/")
ONE_BY_ONE = ("tests/integration/", "tests/chaos/", "tests/page/")
NEED_AIRFLOW = ("dags", "page", "e2e", "cluster")
REQUIRED = os.environ.get("REQUIRE_SERVICES") == "1"
BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.thorough)]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

LEFT = pytest.StashKey[Counter[str]]()

NO_AIRFLOW = "Airflow is not installed" if importlib.util.find_spec("airflow") is None else None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--share",
        choices=(QUICK, "rest", "all"),
        default="all",
        help="quick: what `make test` runs; rest: what it leaves to `make test-all`; all: both (the default)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Which share runs, and what a test may take for granted however it was started."""
    if config.getoption("share") == QUICK:
        hypothesis.settings.load_profile(QUICK)
    # A background job of a script ignores SIGINT, and so would every process that the tests start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Every server of the tests is on this machine; a proxy of the caller's is of no use to any of them.
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """What runs together on one worker: all tests with a running Airflow; of most other tiers, each test alone."""
    from xdist.scheduler import LoadScopeScheduling

    class Spread(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            if nodeid.startswith(WITH_AN_AIRFLOW):
                return "an Airflow takes more than one core: one after the other"
            return nodeid if nodeid.startswith(ONE_BY_ONE) else super()._split_scope(nodeid)

    return Spread(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the other share. Tests with drawn examples are in both: the quick one draws a tenth.

    Those that share an Airflow come last: it takes nothing then from those that have one of their own.
    """
    items.sort(key=lambda item: "places" in getattr(item, "fixturenames", ()))
    share = config.getoption("share")
    if share == "all":
        return
    kept, left = [], []
    for item in items:
        thorough = item.get_closest_marker("thorough") is not None
        chosen = not thorough if share == QUICK else thorough or "hypothesis" in item.keywords
        (kept if chosen else left).append(item)
    config.hook.pytest_deselected(items=left)
    items[:] = kept
    config.stash[LEFT] = Counter(tier_of(item.path) or "other" for item in left)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist tells what was left out."""
    if (told := getattr(session.config, "workeroutput", None)) is not None:
        told["left"] = dict(session.config.stash.get(LEFT, {}))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Every worker has left out the same."""
    node.config.stash[LEFT] = Counter(getattr(node, "workeroutput", {}).get("left", {}))


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
    left = terminalreporter.config.stash.get(LEFT, {})
    if left and terminalreporter.config.getoption("share") == QUICK:
        counts = ", ".join(f"{left[tier]} of {tier}" for tier in TIERS if left[tier])
        terminalreporter.write_line(f"left to `make test-all`: {counts} (tests/README.md says which)")


@pytest.fixture(scope="session")
def postgres_server() -> None:
    """A PostgreSQL on which databases may be made, or the test is skipped."""
    if not postgres_answers():
        pytest.skip(
            f"no PostgreSQL on {POSTGRES.host}:{POSTGRES.port or 5432}; ORDER_CANCEL_TEST_POSTGRES names another"
        )


@pytest.fixture
def postgres_url(postgres_server: None) -> Iterator[str]:
    """The URL of an empty database of the test's own; making one takes a second, `journal_url` takes none."""
    with fresh_database() as url:
        yield url


@pytest.fixture(scope="session")
def shared_postgres(postgres_server: None) -> Iterator[str]:
    """The URL of a database with a journal, which `journal_url` empties for each test."""
    with fresh_database() as url:
        Journal.open(url).close()
        yield url


@pytest.fixture(scope="session")
def empty_journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with a journal and nothing in it, to copy: migrating costs more than most tests."""
    path = tmp_path_factory.mktemp("journal") / "order_cancel.db"
    Journal.open(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def sqlite_url(tmp_path: Path, empty_journal: Path) -> str:
    """The URL of an SQLite journal with nothing in it."""
    shutil.copy(empty_journal, tmp_path / "order_cancel.db")
    return f"sqlite:///{tmp_path / 'order_cancel.db'}"


@pytest.fixture(params=BOTH)
def journal_url(request: pytest.FixtureRequest) -> str:
    """The URL of a journal with nothing in it: every test that asks for it runs on both databases."""
    if request.param == "sqlite":
        url: str = request.getfixturevalue("sqlite_url")
        return url
    url = request.getfixturevalue("shared_postgres")
    _empty(url)
    return url


def _empty(url: str) -> None:
    engine = sqlalchemy.create_engine(url)
    names = ", ".join(table.name for table in schema.metadata.sorted_tables)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))
    engine.dispose()


@pytest.fixture(params=BOTH)
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a journal that does not exist yet, on both databases."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'order_cancel.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def journal(journal_url: str) -> Iterator[Journal]:
    """The journal of `journal_url`, opened."""
    opened = Journal.open(journal_url)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the machine's browser."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
