"""The Custom Response Script that is used where `erp.custom_response` is true and no script is given.

It is written in the Integrator form, so that it can be copied and changed. The flow says in the attribute
`answer.meaning` what the answer proves by `erp.not_done`, `erp.refused`, `erp.refused_path` and
`erp.reference_path`. Its rules:

| `answer.meaning` | word |
|---|---|
| `accepted` | `continue` |
| `auth_fail` | `auth_fail` |
| `unknown` | `unknown`: `erp.in_doubt` decides |
| `not_done`, `refused`, or none | REL_FAILURE with a `reason`: the plan is failed and tried again by the next run |
"""

from __future__ import annotations

DEFAULT_RESPONSE_SCRIPT = """\
RELATIONS = {"accepted": "continue", "auth_fail": "auth_fail", "unknown": "unknown"}

flowFile = session.get()
status = get_attribute("invokehttp.status.code", "")
relation = RELATIONS.get(get_attribute("answer.meaning", ""))

reason = "the ERP answered %s" % (status or "without a status")
if relation != "continue":
    flowFile = session.putAttribute(flowFile, "reason", reason)
if relation:
    flowFile = session.putAttribute(flowFile, "relation", relation)
    session.transfer(flowFile, REL_SUCCESS)
else:
    session.transfer(flowFile, REL_FAILURE)
"""
