"""Flows under CeleryExecutor, two schedulers, two workers that share no files; one worker dies in mid-batch."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from include.order_cancel.rows import State
from include.simulator import plans
from tests.cluster.conftest import HEARTBEAT_TIMEOUT, Cluster
from tests.e2e.place import Place

COUNT = 2000
PATIENCE = 400


def sent(place: Place) -> Counter[int]:
    return Counter(int(call.pk) for call in place.erp.simulator.calls() if call.pk is not None)


def finished_run(place: Place) -> tuple[str, str]:
    """A whole run: its id and how it ended."""
    run = place.start()
    return run, place.server.wait(place.dag_id, run, PATIENCE)


def test_a_worker_that_shares_no_files_carries_a_small_batch(small_cluster: Cluster) -> None:
    small_batch_by_tasks(small_cluster.places["small"])


@pytest.mark.thorough
def test_flows_run_on_two_workers_and_outlive_one_of_them(cluster: Cluster) -> None:
    began = time.monotonic()
    small_batch_by_tasks(cluster.places["small"])
    completed_plans_in_bulk(cluster.places["finished"])
    healthy = time.monotonic()
    a_worker_dies_in_the_middle(cluster)
    two_schedulers_are_at_work(cluster.places["small"])
    print(f"healthy flows {healthy - began:.0f} s, the killed worker {time.monotonic() - healthy:.0f} s")


def two_schedulers_are_at_work(place: Place) -> None:
    params = {"job_type": "SchedulerJob", "is_alive": "true"}
    jobs = place.server.api("GET", "/jobs", params=params)["jobs"]
    assert len(jobs) == 2, jobs


def small_batch_by_tasks(place: Place) -> None:
    place.omnitron.simulator.put_plans(plans(1, 2))

    run, ended = finished_run(place)

    assert ended == "success", place.states(run)
    assert {state for name, state in place.states(run).items() if name.startswith("plan.write")} == {
        "success"
    }
    assert {row.state for row in place.rows().values()} == {State.DONE}
    assert sent(place) == {5001: 1, 5002: 1}
    assert [place.omnitron.simulator.status(pk) for pk in (5001, 5002)] == ["approved"] * 2


def completed_plans_in_bulk(place: Place) -> None:
    place.omnitron.simulator.put_plans(plans(2, 200, status="completed"))

    run, ended = finished_run(place)

    assert ended == "success", place.states(run)
    assert place.states(run)["bulk[0]"] == "success"
    assert {row.state for row in place.rows().values()} == {State.DONE}
    assert sent(place) == dict.fromkeys(range(5001, 5201), 1)
    assert place.omnitron.simulator.writes == {}
    assert place.server.variable("order_cancel_last_run__finished")


def a_worker_dies_in_the_middle(cluster: Cluster) -> None:
    place = cluster.places["large"]
    place.omnitron.simulator.put_plans(plans(3, COUNT))

    run = place.start()
    place.await_(lambda: len(place.erp.simulator.effects) > 300, "a part of the batch")
    pids = {int(row.owner.rpartition(":")[2]) for row in place.rows().values() if row.owner}
    killed = next(worker for worker in cluster.workers if any(worker.runs(pid) for pid in pids))
    other = next(worker for worker in cluster.workers if worker is not killed)
    before = len(place.erp.simulator.effects)
    killed.kill()
    place.server.wait(place.dag_id, run, PATIENCE)

    rows = place.rows()
    doubtful = {int(pk) for pk, row in rows.items() if row.state is State.IN_DOUBT}
    done = {int(pk) for pk, row in rows.items() if row.state is State.DONE}
    assert before < COUNT, "the worker was killed after the batch had ended"
    assert done | doubtful == set(range(5001, 5001 + COUNT))
    assert {pk: number for pk, number in sent(place).items() if number != 1} == {}
    assert {place.omnitron.simulator.status(pk) for pk in done} == {"approved"}
    assert len(doubtful) <= 64, "only what was on the killed worker's wire may be in doubt"
    lots = {
        ti["map_index"]: ti
        for ti in place.server.task_instances(place.dag_id, run)
        if ti["task_id"] == "bulk"
    }
    assert [lots[lot]["state"] for lot in (0, 1)] == ["success", "success"]
    repeated = [lot for lot in (0, 1) if lots[lot]["try_number"] > 1]
    assert repeated, "the killed worker's lot was tried again"
    assert place.states(run)["gate"] == ("failed" if doubtful else "success")
    there = [name for name in other.logs(run) if "task_id=bulk" in name and "attempt=2" in name]
    assert there, "the lot went on at the other worker, where its log is"
    print(f"{len(done)} done, {len(doubtful)} in doubt, heartbeat timeout {HEARTBEAT_TIMEOUT} s")
