# SPDX-License-Identifier: BSD-3-Clause
"""The span that a program is in, for the server; see W3C's Trace Context.

Nothing is imported here. A program without OpenTelemetry, or outside of a span, sends nothing more.
"""

import sys
from typing import Any


def span_headers() -> dict[str, str]:
    """`traceparent`, and maybe `tracestate`, of the caller's span; empty without one."""
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return {}
    span = api.get_current_span().get_span_context()
    if not span.is_valid:
        return {}
    ids = f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
    state = span.trace_state.to_header()
    return {"traceparent": ids, "tracestate": state} if state else {"traceparent": ids}


def with_span(data: dict[str, Any]) -> dict[str, Any]:
    """The `data` of a frame, with the caller's span in its `metadata`."""
    headers = span_headers()
    return {**data, "metadata": {**(data.get("metadata") or {}), **headers}} if headers else data
