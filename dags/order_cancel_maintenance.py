"""Keeps the journal of all order cancel flows: once a day it gives up what the flows' settings keep no longer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronTriggerTimetable, TriggerRule, task

from include.order_cancel import airflow_bridge as bridge

DOC = """
Prunes the journal by each flow's `retention`: the bodies of finished plans after `bodies_days`, all but one line of
them after `rows_days`. Plans that are not over stay whole. Small transactions: flows may run meanwhile.

| task | does | safe to clear? |
|---|---|---|
| `flows` | reads the Variable `order_cancel_flows` | yes |
| `prune` | one index per flow; red where the flow's settings are invalid | yes |
| `give_space_back` | returns an SQLite file's free pages to the disk | yes |
"""

with DAG(
    dag_id="order_cancel_maintenance",
    tags=["order_cancel"],
    schedule=CronTriggerTimetable("17 3 * * *", timezone="UTC"),
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    doc_md=DOC,
    default_args={
        "retries": 3,
        "retry_delay": bridge.RETRY_DELAY,
        "execution_timeout": timedelta(hours=6),
    },
):

    @task
    def flows():
        return bridge.task_index()

    @task(map_index_template="{{ name }}")
    def prune(flow):
        return bridge.prune(flow)

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def give_space_back():
        return bridge.give_space_back()

    prune.expand(flow=flows()) >> give_space_back()
