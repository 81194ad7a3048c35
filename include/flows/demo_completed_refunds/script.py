"""Script Step, plain form: the document gets net and tax of each returned item, which the mapping cannot compute."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

CENT = Decimal("0.01")


def transform(plan: dict[str, Any], attributes: dict[str, str]) -> dict[str, Any]:
    """The plan with `net_amount` and `tax_amount` in each order item, as texts; the customer for the post script."""
    total_tax = Decimal()
    for item in plan["cancellationplanorderitem_set"]:
        line = item["order_item"]
        gross = Decimal(line["price"])
        net = (gross / (1 + Decimal(line["tax_rate"]) / 100)).quantize(CENT, ROUND_HALF_UP)
        line["net_amount"], line["tax_amount"] = str(net), str(gross - net)
        total_tax += gross - net
    attributes["customer"] = str(plan["order"]["customer"])
    attributes["log.tax"] = str(total_tax)
    return plan
