"""Omnitron and an ERP as real HTTP servers, with seeded data and faults on demand.

Knows nothing of the product. As processes: `python -m include.simulator omnitron --port 8081`.
In a test: `with running(OmnitronSimulator(...)) as server`.
"""

from include.simulator.data import plans, transactions
from include.simulator.erp import Effect, ErpSimulator
from include.simulator.faults import Fault, FaultBook
from include.simulator.omnitron import OmnitronSimulator
from include.simulator.server import RunningServer, Simulator, running
from include.simulator.wire import Answer, Request

__all__ = [
    "Answer",
    "Effect",
    "ErpSimulator",
    "Fault",
    "FaultBook",
    "OmnitronSimulator",
    "Request",
    "RunningServer",
    "Simulator",
    "plans",
    "running",
    "transactions",
]
