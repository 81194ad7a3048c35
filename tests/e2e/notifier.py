"""A notifier of the tests' own: posts what it is told over HTTP, with a secret from a Connection."""

from __future__ import annotations

import requests
from airflow.sdk import BaseNotifier


class HttpNotifier(BaseNotifier):
    """Posts `text` to `url`; both are templates."""

    template_fields = ("url", "text", "secret")

    def __init__(self, url: str, text: str, secret: str = "") -> None:
        super().__init__()
        self.url, self.text, self.secret = url, text, secret

    def notify(self, context: object) -> None:
        """Raises for an answer that is not 2xx."""
        body = {"text": self.text, "secret": self.secret}
        requests.post(self.url, json=body, timeout=10).raise_for_status()
