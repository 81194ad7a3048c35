"""The bulk lane in a real scheduler: thousands of plans once each, and what stays open gets tasks of its own."""

from __future__ import annotations

import os
import signal
from collections import Counter

import pytest

from include.order_cancel.rows import State
from include.simulator import plans
from tests.e2e.place import Place

pytestmark = pytest.mark.thorough


def sent_and_written_once(place: Place, pks: set[int]) -> None:
    sent = Counter(int(call.pk) for call in place.erp.simulator.calls() if call.pk is not None)
    written = place.omnitron.simulator.writes
    assert {pk: sent[pk] for pk in pks if sent[pk] != 1} == {}
    assert {pk: written[pk] for pk in pks if written[pk] != 1} == {}


def red_indexes(place: Place, run: str) -> list[str]:
    instances = place.server.task_instances(place.dag_id, run)
    return sorted(
        ti["rendered_map_index"] for ti in instances if ti["state"] == "failed" and ti["map_index"] >= 0
    )


def test_three_thousand_plans_are_each_sent_and_written_back_once(places: dict[str, Place]) -> None:
    place = places["thousands"]
    place.omnitron.simulator.put_plans(plans(3, 3000))

    run, ended = place.run()

    assert ended == "success"
    states = place.states(run)
    assert [states[f"bulk[{lot}]"] for lot in range(4)] == ["success"] * 4
    assert not [name for name in states if name.startswith("plan.") and "[" in name]
    sent_and_written_once(place, set(range(5001, 8001)))


def test_seven_refused_of_a_thousand_are_seven_red_named_indexes(places: dict[str, Place]) -> None:
    place = places["seven_refused"]
    refused = [5003 + 140 * number for number in range(7)]
    place.omnitron.simulator.put_plans(plans(3, 1000))
    for pk in refused:
        place.erp.simulator.fail("refuse", plan=pk, body={"error": f"plan {pk} has no such customer"})

    run, ended = place.run()

    assert ended == "failed"
    names = {pk: place.rows()[str(pk)].name for pk in refused}
    assert red_indexes(place, run) == sorted(names.values())
    first = names[refused[0]]
    log = place.log(run, "plan.write_to_erp", first)
    assert f"plan {refused[0]} has no such customer" in log
    assert not [pk for pk in refused[1:] if str(pk) in log]
    sent_and_written_once(place, set(range(5001, 6001)) - set(refused))

    place.erp.simulator.faults.clear()
    place.clear(run, "plan.write_to_erp", first)

    assert place.ended(run) == "failed"
    assert place.omnitron.simulator.status(refused[0]) == "approved"
    assert red_indexes(place, run) == sorted(names[pk] for pk in refused[1:])


def test_of_two_hundred_refused_fan_out_get_indexes_and_all_are_counted(places: dict[str, Place]) -> None:
    place = places["many_refused"]
    place.omnitron.simulator.put_plans(plans(3, 1000))
    refused = range(5401, 5601)  # not the oldest: a run whose first answers are all refusals stops
    for pk in refused:
        place.erp.simulator.fail("refuse", plan=pk)

    run, ended = place.run()

    assert ended == "failed"
    assert len(red_indexes(place, run)) == 6
    assert "200 failed" in place.log(run, "gate")
    assert "failed            200" in place.log(run, "report")
    sent_and_written_once(place, set(range(5001, 6001)) - set(refused))


def test_a_bulk_task_killed_in_the_middle_goes_on_where_it_stopped(places: dict[str, Place]) -> None:
    place = places["bulk_killed"]
    place.omnitron.simulator.put_plans(plans(3, 3000))

    run = place.start()
    place.await_(lambda: len(place.erp.simulator.effects) > 400, "a part of the batch")
    owners = {row.owner.rpartition(":")[2] for row in place.rows().values() if row.owner}
    for pid in owners:
        os.kill(int(pid), signal.SIGKILL)
    place.ended(run)

    rows = place.rows()
    doubtful = {int(pk) for pk, row in rows.items() if row.state is State.IN_DOUBT}
    done = {int(pk) for pk, row in rows.items() if row.state is State.DONE}
    assert owners
    assert done | doubtful == set(range(5001, 8001))
    sent = Counter(int(call.pk) for call in place.erp.simulator.calls() if call.pk is not None)
    assert {pk: number for pk, number in sent.items() if number != 1} == {}
    assert {place.omnitron.simulator.status(pk) for pk in done} == {"approved"}
    assert len(doubtful) <= 2 * 64, "only what was on the wire may be in doubt"
