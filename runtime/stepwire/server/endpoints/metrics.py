# SPDX-License-Identifier: BSD-3-Clause
"""`GET /metrics`, for Prometheus."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from stepwire.server.observing.metrics import ENABLED

_HOW = "Metrics need the package prometheus_client: pip install 'stepwire[metrics]'"


def add_metrics_route(router: APIRouter) -> None:
    """Serve the figures of all workers of the server."""
    router.get(
        "/metrics",
        tags=["Operation"],
        summary="Get the metrics, for Prometheus",
        response_class=Response,
        responses={
            200: {
                "content": {"text/plain": {"example": "stepwire_sessions_open 12.0\n"}},
                "description": "Prometheus text",
            },
            501: {"description": "The server lacks prometheus_client"},
        },
    )(_metrics)


async def _metrics(request: Request) -> Response:
    """Return the figures of all workers, in Prometheus's text format."""
    if not ENABLED:
        return JSONResponse({"detail": _HOW}, 501)
    from stepwire.server.observing.exposition import encode

    text, media_type = encode(request.headers.get("accept", ""))
    return Response(text, headers={"Content-Type": media_type})
