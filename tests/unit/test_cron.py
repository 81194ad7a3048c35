from __future__ import annotations

import pytest

from include.order_cancel import cron


@pytest.mark.parametrize(
    "schedule",
    [
        "*/5 * * * *",
        "0 0 5 * *",
        "0 9-17/2 * * mon-FRI",
        "5/10 0,12 1-7 jan,Jul sun",
        "0 0 29 2 *",
        "0 0 31 2 mon",
        "0 0 * * 7",
        "59 23 31 12 0-7",
        *cron.PRESETS,
    ],
)
def test_schedules_that_airflow_takes_pass(schedule: str) -> None:
    assert cron.check(schedule) == schedule


def test_blanks_between_the_fields_become_one() -> None:
    assert cron.check("  0\t0  * * *\n") == "0 0 * * *"


@pytest.mark.parametrize(
    "schedule",
    [
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 13 *",
        "* * * 0 *",
        "* * * * 8",
        "*/0 * * * *",
        "*/60 * * * *",
        "5-1 * * * *",
        "1,,2 * * * *",
        "1- * * * *",
        "-1 * * * *",
        "*/ * * * *",
        "*-5 * * * *",
        "a * * * *",
        "mon * * * *",
        "+1 * * * *",
        "1.5 * * * *",
        "² * * * *",
        "٣ * * * *",
        "0 0 L * *",
        "0 0 * * fri#2",
        "0 0 ? * *",
        "0 0 31 4,6 *",
        "@continuous",
        "@Daily",
        "@reboot",
        "@daily @daily",
        "9" * 10_000 + " * * * *",
    ],
)
def test_other_schedules_are_refused(schedule: str) -> None:
    with pytest.raises(ValueError, match=r"cron|must be|preset|never comes|backwards|pause"):
        cron.check(schedule)
