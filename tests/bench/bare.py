"""What we are compared with: `python -m tests.bench.bare threads|asyncio OMNITRON ERP`.

The shortest script that does the same job without a journal: log in, list, map by hand, send, write back. Nothing is
remembered, nothing is tried again; the first mistake ends it.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import requests

THREADS, IN_FLIGHT = 16, 64
LOGIN = {"username": "omnitron", "password": "secret"}
LIST: dict[str, str | int] = {"status": "waiting", "channel_type": "sales_channel", "limit": 100}
API = "/api/v1"


def mapped(plan: dict[str, Any]) -> dict[str, Any]:
    """The body for the ERP: what the flow's Jolt mapping makes of the plan."""
    return {"plan": plan["pk"], "orderNumber": plan["order"]["number"], "amount": plan["refund_amount"]}


def with_threads(omnitron: str, erp: str) -> None:
    """`requests` in 16 threads, a session in each."""
    key = requests.post(f"{omnitron}{API}/auth/login/", json=LOGIN, timeout=30).json()["key"]
    own = threading.local()

    def session() -> requests.Session:
        if not hasattr(own, "session"):
            own.session = requests.Session()
            own.session.headers["Authorization"] = f"Token {key}"
        made: requests.Session = own.session
        return made

    def pages() -> Iterator[dict[str, Any]]:
        page = 1
        while True:
            params = {**LIST, "page": page}
            answer = session().get(f"{omnitron}{API}/cancellation_plans/", params=params, timeout=30).json()
            yield from answer["results"]
            if not answer["next"]:
                return
            page += 1

    def carry(plan: dict[str, Any]) -> None:
        headers = {"Authorization": "", "Idempotency-Key": str(plan["pk"])}
        sent = session().post(f"{erp}/cancellations", json=mapped(plan), headers=headers, timeout=30)
        sent.raise_for_status()
        url = f"{omnitron}{API}/cancellation_plans/{plan['pk']}/"
        session().patch(url, json={"status": "approved"}, timeout=30).raise_for_status()

    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(carry, list(pages())):
            pass


async def with_asyncio(omnitron: str, erp: str) -> None:
    """aiohttp with 64 plans under way."""
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        async with session.post(f"{omnitron}{API}/auth/login/", json=LOGIN) as answer:
            auth = {"Authorization": f"Token {(await answer.json())['key']}"}

        async def pages() -> AsyncIterator[dict[str, Any]]:
            page = 1
            while True:
                params = {**LIST, "page": page}
                url = f"{omnitron}{API}/cancellation_plans/"
                async with session.get(url, params=params, headers=auth) as answer:
                    content = await answer.json()
                for plan in content["results"]:
                    yield plan
                if not content["next"]:
                    return
                page += 1

        waiting = iter([plan async for plan in pages()])

        async def worker() -> None:
            for plan in waiting:
                headers = {"Idempotency-Key": str(plan["pk"])}
                async with session.post(f"{erp}/cancellations", json=mapped(plan), headers=headers) as sent:
                    await sent.read()
                url = f"{omnitron}{API}/cancellation_plans/{plan['pk']}/"
                async with session.patch(url, json={"status": "approved"}, headers=auth) as written:
                    await written.read()

        await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))


if __name__ == "__main__":
    how, *addresses = sys.argv[1:]
    if how == "threads":
        with_threads(*addresses)
    else:
        asyncio.run(with_asyncio(*addresses))
