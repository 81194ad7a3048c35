# Custom Response Script, Integrator form: session, flow file and attributes come from the step.
# ruff: noqa: F821
# mypy: ignore-errors
import json

from java.nio.charset import StandardCharsets
from org.apache.commons.io import IOUtils
from org.apache.nifi.processor.io import InputStreamCallback


class AnswerReader(InputStreamCallback):
    def __init__(self):
        self.text = ""

    def process(self, inputStream):
        self.text = IOUtils.toString(inputStream, StandardCharsets.UTF_8)

    def code(self):
        try:
            return json.loads(self.text).get("code")
        except (ValueError, AttributeError):
            return None


def relation_of(status, code):
    if 200 <= status < 300 or code == "ALREADY_BOOKED":
        return "continue"
    if status == 401:
        return "auth_fail"
    if status == 429:
        return "do_nothing"
    if status >= 500:
        return "unknown"  # a gateway may have passed the request on: `erp.in_doubt` decides
    return None


flowFile = session.get()
if flowFile is not None:
    reader = AnswerReader()
    session.read(flowFile, reader)
    status = int(get_attribute("invokehttp.status.code", "0"))
    relation = relation_of(status, reader.code())
    if relation is None:
        session.transfer(flowFile, REL_FAILURE)
    else:
        flowFile = session.putAttribute(flowFile, "relation", relation)
        if reader.code() == "ALREADY_BOOKED":
            flowFile = session.putAttribute(flowFile, "reason", "the ERP had booked it before")
        session.transfer(flowFile, REL_SUCCESS)
