"""Post Script Step, plain form: runs once the plan is over; a call to a CRM would stand here."""

from __future__ import annotations

from typing import Any


def after(request: dict[str, Any], response: dict[str, Any], attributes: dict[str, str]) -> None:
    """Logs what the customer would be told: the ERP's document and the amount that was sent to it."""
    attributes["log.crm"] = (
        f"customer {attributes['customer']}: {request['amount']} {request['currency']} are on their way, "
        f"document {response['documentNumber']}"
    )
