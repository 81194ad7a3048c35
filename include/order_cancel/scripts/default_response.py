"""The Custom Response Script that is used where `erp.custom_response` is true and no script is given.

It is written in the Integrator form, so that it can be copied and changed. Its rules:

| answer | word |
|---|---|
| 2xx | `continue` |
| 401 | `auth_fail` |
| 408, 425, 429, 5xx | `do_nothing` |
| any other, or no status | REL_FAILURE with a `reason`: the plan is failed and tried again by the next run |
"""

from __future__ import annotations

DEFAULT_RESPONSE_SCRIPT = """\
TRY_LATER = (408, 425, 429)

flowFile = session.get()
status_text = get_attribute("invokehttp.status.code", "")
status = int(status_text) if status_text.isdigit() else 0

relation = None
if 200 <= status <= 299:
    relation = "continue"
elif status == 401:
    relation = "auth_fail"
elif status in TRY_LATER or 500 <= status <= 599:
    relation = "do_nothing"

if relation:
    flowFile = session.putAttribute(flowFile, "relation", relation)
    session.transfer(flowFile, REL_SUCCESS)
else:
    reason = "the ERP answered %s" % (status_text or "without a status")
    flowFile = session.putAttribute(flowFile, "reason", reason)
    session.transfer(flowFile, REL_FAILURE)
"""
