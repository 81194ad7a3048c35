"""One DAG per flow in the Variable `order_cancel_flows`: schedule, retries, arrows. The work is in `include`."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronTriggerTimetable, Param, TriggerRule, get_parsing_context, task, task_group

from include.order_cancel import airflow_bridge as bridge
from include.order_cancel.errors import OrderCancelError, Problem
from include.order_cancel.params import DESCRIPTIONS, PARAM_SCHEMAS
from include.order_cancel.settings import DAG_PREFIX, FLOW_NAME
from include.order_cancel.steps import STEPS

DOC = """
Carries Omnitron's cancellation plans of the flow **{flow}** to the ERP, and the ERP's answer back.

| task | does | safe to clear? |
|---|---|---|
| `login` | checks the settings, makes sure of both tokens | yes |
| `get_data_from_omnitron` | lists the plans and freezes who belongs to this run | yes, it keeps its plans |
| `bulk` | a batch larger than `fan_out`: all steps, many plans side by side | yes, it goes on where it stopped |
| `open_plans` | names the plans that get tasks of their own | yes |
| `plan.*` | the steps of one plan, named `<order number> / <plan pk>` | yes: what the ERP took is not sent again |
| `report` | prints the outcome table | yes |
| `gate` | fails when a task failed or a plan is not settled | yes |

**A plan is red.** The last lines of its log say why. Mend the cause (in the ERP, the mapping, the settings), then clear
the red task with *Downstream*: only this plan is tried again, with the settings as they are then. Left alone, the next
run tries it again.

**A plan is `in_doubt`.** The ERP may or may not have taken it, and this flow does not guess. Look it up there, then
`python -m include.order_cancel resolve PK --flow {flow} --arrived` or `--not-arrived`.

**`held`, skipped.** The response script said `do_nothing`: the next run offers the plan again.
"""
INDEX_DOC = """
Stands here only while the Variable `order_cancel_flows`, the list of the flows, has entries that cannot be used. The
other entries have their DAGs. Mend the Variable (*Admin > Variables*), and this DAG goes. Safe to run and to clear.
"""


def build(flow: str, schedule: str | None, timezone: str, steps: tuple[str, ...]) -> DAG:
    """The DAG of one flow, with a task in the group `plan` for each of `steps`."""
    with DAG(
        dag_id=DAG_PREFIX + flow,
        tags=["order_cancel"],
        schedule=_schedule(schedule, timezone),
        start_date=datetime(2025, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        doc_md=DOC.format(flow=flow),
        params={
            name: Param(None, description=DESCRIPTIONS[name], **PARAM_SCHEMAS[name]) for name in DESCRIPTIONS
        },
        default_args={
            "retries": 3,
            "retry_delay": bridge.RETRY_DELAY,
            "execution_timeout": timedelta(hours=6),
        },
    ) as dag:

        @task
        def login():
            return bridge.login(flow)

        @task
        def get_data_from_omnitron(run):
            return bridge.get_data_from_omnitron(flow, run)

        @task(map_index_template="{{ name }}")
        def bulk(run, lot):
            return bridge.bulk(flow, run, lot)

        @task(trigger_rule=TriggerRule.NONE_FAILED)
        def open_plans(run):
            return bridge.open_plans(flow, run)

        @task_group
        def plan(member):
            previous = None
            for step in steps:
                carried = _step(flow, step)(member)
                if previous is not None:
                    previous >> carried
                previous = carried

        @task(trigger_rule=TriggerRule.ALL_DONE, outlets=[bridge.run_asset(flow)])
        def report(run):
            return bridge.report(flow, run)

        @task(trigger_rule=TriggerRule.ALL_DONE, retries=0)
        def gate(run):
            return bridge.gate(flow, run)

        run = login()
        lots = get_data_from_omnitron(run)
        carried_in_lots = bulk.partial(run=run).expand(lot=lots)
        opened = open_plans(run)
        carried = plan.expand(member=opened)
        reported = report(run)
        lots >> carried_in_lots >> opened >> carried >> reported
        [run, lots, carried_in_lots, opened, carried, reported] >> gate(run)
    return dag


def _step(flow: str, step: str):
    @task(task_id=step, map_index_template="{{ name }}")
    def carry(member):
        bridge.carry_one(flow, member, step)

    return carry


def _schedule(schedule: str | None, timezone: str):
    if schedule is None or schedule == "@once":
        return schedule
    return CronTriggerTimetable(schedule, timezone=timezone)  # a preset given as text would be read in UTC


def build_index(problems: list[Problem]) -> DAG:
    """The DAG that tells what is wrong with the list of the flows: an import error would take every flow down."""
    told = "\n".join(f"    {problem}" for problem in problems)  # indented: shown as it is
    with DAG(
        dag_id=bridge.INDEX_VARIABLE,
        dag_display_name=f"{bridge.INDEX_VARIABLE} (the list of flows has problems)",
        description="; ".join(map(str, problems)),
        tags=["order_cancel"],
        schedule=None,
        start_date=datetime(2025, 1, 1, tzinfo=UTC),
        catchup=False,
        doc_md=f"{INDEX_DOC}\n{told}\n",
        default_args={"retries": 0},
    ) as dag:

        @task
        def check():
            return bridge.check_index()

        check()
    return dag


def build_all() -> dict[str, DAG]:
    """Every flow's DAG, or only the one that a worker asks for: a worker reads no Variable and builds all steps."""
    asked = get_parsing_context().dag_id
    if asked is not None:
        return _asked(asked)
    names, problems = bridge.read_index()
    for problem in problems:
        logging.getLogger(__name__).error("%s", problem)
    dags = {DAG_PREFIX + flow: _from_settings(flow) for flow in names}
    return dags | ({bridge.INDEX_VARIABLE: build_index(problems)} if problems else {})


def _asked(dag_id: str) -> dict[str, DAG]:
    if dag_id == bridge.INDEX_VARIABLE:
        return {dag_id: build_index([])}  # the task reads the Variable itself
    flow = dag_id.removeprefix(DAG_PREFIX)
    if not dag_id.startswith(DAG_PREFIX) or not FLOW_NAME.fullmatch(flow):
        return {}
    return {dag_id: build(flow, None, "UTC", STEPS)}


def _from_settings(flow: str) -> DAG:
    """A flow's DAG; one whose settings are missing or wrong keeps its usual shape, without a schedule."""
    try:
        settings = bridge.parsed_settings(flow)
    except OrderCancelError as error:
        logging.getLogger(__name__).error("flow %s has no schedule: %s", flow, error)
        return build(flow, None, "UTC", STEPS)
    return build(flow, settings.schedule, settings.timezone, settings.steps)


globals().update(build_all())
