"""Looks at the order cancel flows between their runs, where a flow's `alerts` want to hear of too long a silence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronTriggerTimetable, get_parsing_context, task

from include.order_cancel import airflow_bridge as bridge

DOC = """
Every 5 minutes: tells the notifiers of a flow whose gate has not opened for `no_success_minutes`, once until it opens
again, and writes the gauges of open plans. Without such an alert in any flow it has no schedule. Safe to clear.
"""


def schedule() -> CronTriggerTimetable | None:
    """A worker need not know it, and reads no Variable."""
    if get_parsing_context().dag_id is not None or not bridge.needs_watching():
        return None
    return CronTriggerTimetable("*/5 * * * *", timezone="UTC")


with DAG(
    dag_id="order_cancel_watch",
    tags=["order_cancel"],
    schedule=schedule(),
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    doc_md=DOC,
    default_args={"retries": 1, "retry_delay": bridge.RETRY_DELAY, "execution_timeout": timedelta(hours=1)},
):

    @task
    def flows():
        return bridge.task_index()

    @task(map_index_template="{{ name }}")
    def watch(flow):
        bridge.watch(flow)

    watch.expand(flow=flows())
