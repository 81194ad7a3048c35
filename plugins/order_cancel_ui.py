"""Registers the page with Airflow: the web app, its place in the navigation, and two tabs. Nothing else.

Every Airflow process reads this file, tasks too: what the page needs is imported by its first request.
"""

from __future__ import annotations

from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin

from include.order_cancel_page.mount import PREFIX, VIEWS, LazyApp


class OrderCancelPage(AirflowPlugin):
    """The page of the order cancel flows."""

    name = "order_cancel"
    fastapi_apps: ClassVar[list[Any]] = [
        {"app": LazyApp(), "url_prefix": f"/{PREFIX}", "name": "Order cancel flows"}
    ]
    external_views: ClassVar[list[Any]] = VIEWS
