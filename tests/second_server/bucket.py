"""An object store as S3 behaves towards presigned addresses; exports' contents lie in it.

Knows nothing of PostHog. Not modelled: Range, the end of an address after its hour. Source: posthog-api.md §3.5.
"""

import hashlib
import hmac
import secrets
from urllib.parse import urlencode

from .answers import Answer, Request

XML = "application/xml"


class Bucket:
    """Objects by key. *url* is known once the store listens."""

    def __init__(self) -> None:
        self.url = ""
        self._secret = secrets.token_bytes()
        self._objects: dict[str, tuple[str, bytes]] = {}

    def put(self, key: str, *, content_type: str, content: bytes) -> None:
        """Keep *content* under *key*."""
        self._objects[key] = (content_type, content)

    def presigned(self, key: str, *, filename: str | None) -> str:
        """Address that serves *key* to whoever has it; as an attachment if there is a *filename*."""
        asked = {"X-Amz-Expires": "3600"}
        if filename is not None:
            asked["response-content-disposition"] = f'attachment; filename="{filename}"'
        return f"{self.url}/{key}?{urlencode(asked | {'X-Amz-Signature': self._signature(key, asked)})}"

    def respond(self, request: Request) -> Answer:
        """The object; refuses a second way of signing, a wrong signature and every method but GET."""
        if request.authorization:
            return _refusal(400, "InvalidArgument", "Only one auth mechanism allowed")
        key, asked = request.path.removeprefix("/"), request.params
        signature = asked.pop("X-Amz-Signature", "")
        if request.method != "GET" or not hmac.compare_digest(signature, self._signature(key, asked)):
            return _refusal(403, "SignatureDoesNotMatch", "The signature does not match the request")
        content_type, content = self._objects[key]
        disposition = asked.get("response-content-disposition")
        headers = (("Content-Disposition", disposition),) if disposition else ()
        return Answer(200, content, headers, content_type)

    def _signature(self, key: str, asked: dict[str, str]) -> str:
        return hmac.new(self._secret, f"{key}?{urlencode(asked)}".encode(), hashlib.sha256).hexdigest()


def _refusal(status: int, code: str, message: str) -> Answer:
    return Answer(status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode(), content_type=XML)
