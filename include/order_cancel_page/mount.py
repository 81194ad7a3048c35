"""What the plugin registers with Airflow. Imports nothing heavy: tasks and schedulers read it too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

PREFIX = "order-cancel"
_RUN = "dag_id={DAG_ID}&run_id={RUN_ID}"

# Relative addresses: Airflow may live under a base path. Airflow fills in the names in braces.
VIEWS: list[dict[str, str]] = [
    {
        "name": "Order cancel",
        "href": f"{PREFIX}/",
        "destination": "nav",
        "category": "browse",
        "url_route": "order-cancel",
    },
    {
        "name": "Plans",
        "href": f"{PREFIX}/run?{_RUN}",
        "destination": "dag_run",
        "url_route": "order-cancel-run",
    },
    {
        "name": "Plan",
        "href": f"{PREFIX}/task?{_RUN}&task_id={{TASK_ID}}&map_index={{MAP_INDEX}}",
        "destination": "task_instance",
        "url_route": "order-cancel-task",
    },
]

Message = MutableMapping[str, Any]


class LazyApp:
    """The web app, built when the first request comes."""

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if self._app is None:
            self._app = _build()
        await self._app(scope, receive, send)


def _build() -> Any:
    from include.order_cancel_page.airflow_door import AirflowDoor  # noqa: PLC0415 (a second of imports)
    from include.order_cancel_page.app import build  # noqa: PLC0415

    return build(AirflowDoor())
