"""Who may talk to the explorer: a page of this machine that knows its token, and nobody else."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_HEADER = "x-ngvae-token"  # noqa: S105 - the name of a header
TOKEN_QUERY = "token"  # noqa: S105 - the name of a parameter

NAMES = ("127.0.0.1", "localhost")
"""Names by which a browser may call the server; any other would be a foreign name that was made to point here."""

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Gate:
    """Lets a request through to an application, or refuses it; every answer gets the headers above.

    The token is no cookie: browsers send those of one port to the servers of all others.

    Args:
        app: What is behind the gate.
        token: What every request must carry, in its header or in its address.
        port: Where the server listens.
    """

    def __init__(self, app: ASGIApp, *, token: str, port: int) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = {f"{name}:{port}" for name in NAMES}
        if port == 80:
            self._hosts |= set(NAMES)  # browsers leave this one out
        self._origins = {f"http://{host}" for host in self._hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, with_headers)
            return
        status, sentence = refusal
        await JSONResponse({"error": sentence}, status)(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        if headers.getlist("host") not in [[host] for host in self._hosts]:
            return 421, "The explorer answers under its own address only."
        given = headers.get(TOKEN_HEADER) or QueryParams(scope["query_string"]).get(TOKEN_QUERY, "")
        # In constant time: how long a comparison takes must not tell how much of a guess is right.
        if not secrets.compare_digest(given.encode(errors="replace"), self._token):
            return 403, "The address lacks its token: open the one that ngvae-tools explore printed."
        origins = headers.getlist("origin")
        if (origins or scope["method"] != "GET") and origins not in [[origin] for origin in self._origins]:
            return 403, "The explorer answers its own page only."
        return None
