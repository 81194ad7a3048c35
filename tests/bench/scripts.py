"""What one script call costs: `python -m tests.bench.scripts PLANS`, one process for all of them, no HTTP.

Prints a JSON object: for each form of script the CPU of a call in ms, parent and script process together, and how
many processes were started.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from typing import Any

from include.order_cancel.scripts.process import Limits, ScriptProcess
from include.simulator import plans

PLAIN = """
def transform(plan, attributes):
    attributes["order"] = str(plan["order"]["number"])
    plan["total"] = round(float(plan["order"]["amount"]) * 100)
    return plan
"""
INTEGRATOR = """
from org.apache.commons.io import IOUtils
from java.nio.charset import StandardCharsets
from org.apache.nifi.processor.io import StreamCallback
import json

class Total(StreamCallback):
    def process(self, inputStream, outputStream):
        plan = json.loads(IOUtils.toString(inputStream, StandardCharsets.UTF_8))
        plan["total"] = round(float(plan["order"]["amount"]) * 100)
        outputStream.write(bytearray(json.dumps(plan).encode("utf-8")))

flowFile = session.get()
if flowFile is not None:
    flowFile = session.write(flowFile, Total())
    flowFile = session.putAttribute(flowFile, "order", "1")
    session.transfer(flowFile, REL_SUCCESS)
"""
FORMS = {"a plain function": PLAIN, "an Integrator script": INTEGRATOR}


async def measured(text: str, documents: list[dict[str, Any]]) -> dict[str, float]:
    """CPU per call in ms, and the processes that were started."""
    before = _cpu()
    async with ScriptProcess(Limits()) as process:
        for document in documents:
            await process.run("script", text, document, {"channel_type": "web"})
    return {"cpu_ms": (_cpu() - before) / len(documents) * 1000, "starts": process.starts}


def _cpu() -> float:
    used = (resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    documents = plans(1, int(sys.argv[1]))
    print(json.dumps({name: asyncio.run(measured(text, documents)) for name, text in FORMS.items()}))
