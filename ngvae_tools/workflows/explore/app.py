"""The explorer as a web application: its page, and four answers to the page's script."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from ngvae_tools.analysis.overview import Plane
from ngvae_tools.errors import NgvaeToolsError
from ngvae_tools.reporting.facts import headline
from ngvae_tools.reporting.pictures import Colouring
from ngvae_tools.reporting.words import plain, shortened
from ngvae_tools.workflows.explore.chart import NAME_LENGTH, Chart
from ngvae_tools.workflows.explore.explorer import Explorer, Shown, data_url

IMAGE_BYTES = 64 * 2**20
"""An image file that is sent may have so many bytes."""

QUESTION_BYTES = 2**20
"""Any other question may have so many, and as many again as its latents take."""

NUMBER_BYTES = 32
"""What one latent takes at most as text."""

logger = logging.getLogger("ngvae_tools")


def application(explorer: Explorer, token: str) -> Starlette:
    """The application; it trusts whoever asks, see `ngvae_tools.workflows.explore.gate`.

    Args:
        explorer: What answers.
        token: What the page's script sends back.
    """
    room = QUESTION_BYTES + NUMBER_BYTES * len(explorer.start)
    about = _about(explorer)
    html = _page(token)

    async def page(_: Request) -> Response:
        return HTMLResponse(html)

    async def describe(_: Request) -> Response:
        return JSONResponse(about)

    async def decode(request: Request) -> Response:
        z = _json(await _body(request, room), "z")
        return Response(await run_in_threadpool(explorer.decode, z), media_type="image/png")

    async def point(request: Request) -> Response:
        body = await _body(request, room)
        question = _json(body)
        if isinstance(question.get("id"), str):
            return _answer(await run_in_threadpool(explorer.find, question["id"]))
        row = _json(body, "row")
        if type(row) is not int:
            raise HTTPException(400, "A row is a whole number.")
        return _answer(await run_in_threadpool(explorer.point, row))

    async def encode(request: Request) -> Response:
        data = await _body(request, IMAGE_BYTES)
        return _answer(await run_in_threadpool(explorer.encode, data))

    return Starlette(
        routes=[
            Route("/", page),
            *(Route(f"/{name}", _fixed(name, kind)) for name, kind in FILES.items()),
            Route("/api/about", _guarded(describe), methods=["POST"]),
            Route("/api/decode", _guarded(decode), methods=["POST"]),
            Route("/api/point", _guarded(point), methods=["POST"]),
            Route("/api/encode", _guarded(encode), methods=["POST"]),
        ],
        exception_handlers={HTTPException: _said},
    )


FILES = {"explorer.css": "text/css", "explorer.js": "text/javascript"}
"""The files of the page with their types; no other is given out."""

Handler = Callable[[Request], Awaitable[Response]]


def _guarded(handler: Handler) -> Handler:
    """Turn what a question raises into one sentence, as the command line does."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except NgvaeToolsError as error:
            return JSONResponse({"error": plain(error)}, 422)
        except (HTTPException, ClientDisconnect):
            raise
        except Exception as error:
            logger.exception("a fault inside ngvae-tools")
            return JSONResponse({"error": f"A fault inside ngvae-tools ({type(error).__name__})."}, 500)

    return answer


async def _said(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _body(request: Request, room: int) -> bytes:
    """What was sent, read no further than it may be long."""
    said = request.headers.get("content-length", "")
    parts, total = [], 0
    too_long = HTTPException(413, f"What was sent is larger than {room // 2**20} MiB.")
    if said.isdecimal() and int(said) > room:
        raise too_long
    async for part in request.stream():
        parts.append(part)
        total += len(part)
        if total > room:
            raise too_long
    return b"".join(parts)


def _json(body: bytes, name: str | None = None) -> Any:
    """The JSON object that was sent, or one of its values."""
    try:
        found = json.loads(body)
        if not isinstance(found, dict):
            raise TypeError  # noqa: TRY301
        return found if name is None else found[name]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise HTTPException(400, f"A question is a JSON object with {name or 'row or id'}.") from None


def _answer(shown: Shown) -> Response:
    return JSONResponse(
        {
            "name": shown.name,
            "row": shown.row,
            "z": shown.z,
            "place": shown.place,
            "decoded": data_url(shown.decoded),
            "original": None if shown.original is None else data_url(shown.original),
            "error": shown.error,
            "notes": [plain(note) for note in shown.notes],
        }
    )


def _about(explorer: Explorer) -> dict[str, Any]:
    """All that the page needs to know before anybody touches it."""
    record = explorer.record
    kept = explorer.file.header.origin.dimensions
    return {
        "headline": f"{len(kept)} of {len(explorer.start)} dimensions are kept" if record is None else headline(record),
        "source": plain(explorer.file.path.resolve()),
        "images": len(explorer.file),
        "encodes": explorer.encodes,
        "originals": explorer.shows_originals,
        "imageBytes": IMAGE_BYTES,
        "notes": [plain(note) for note in explorer.notes],
        "start": explorer.start.tolist(),
        "kept": kept,
        "sliders": [
            {
                "dimension": slider.dimension,
                "informative": slider.informative,
                "information": slider.information,
                "low": slider.low,
                "high": slider.high,
                "step": slider.step,
                "noise": slider.noise,
            }
            for slider in explorer.sliders
        ],
        "map": None if explorer.chart.plane is None else _map(explorer.chart, explorer.chart.plane),
    }


def _map(chart: Chart, plane: Plane) -> dict[str, Any]:
    return {
        "rows": chart.rows.tolist(),
        "names": chart.names,
        "places": _rounded(plane.points(chart.values)),
        "centre": plane.centre.tolist(),
        "axes": plane.axes.tolist(),
        "explained": plane.explained,
        "units": chart.units,
        "colourings": [_colouring(colouring) for colouring in chart.colourings],
    }


def _colouring(colouring: Colouring) -> dict[str, Any]:
    values = [value if math.isfinite(value) else None for value in _rounded(colouring.values)]
    classes = [shortened(plain(name), NAME_LENGTH) for name in colouring.classes]
    return {
        "name": plain(colouring.name),
        "categorical": colouring.categorical,
        "values": values,
        "classes": classes,
    }


def _rounded(values: Any) -> Any:
    """Numbers as a screen can show them; 6 digits."""
    if isinstance(values, float):
        return float(f"{values:.6g}")
    return [_rounded(value) for value in (values if isinstance(values, list) else values.tolist())]


def _page(token: str) -> str:
    from jinja2 import Environment, StrictUndefined

    text = (files(__package__) / "page.html.jinja").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(text).render(token=token)


def _fixed(name: str, kind: str) -> Handler:
    content = (files(__package__) / name).read_bytes()

    async def answer(_: Request) -> Response:
        return Response(content, media_type=kind)

    return answer
