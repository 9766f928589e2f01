# SPDX-License-Identifier: BSD-3-Clause
"""The span that a program is in, for the server; see W3C's Trace Context.

Nothing is imported here. A program without OpenTelemetry, or outside of a span, sends nothing more.
"""

import sys
from typing import Any


def span_headers() -> dict[str, str]:
    """`traceparent`, and maybe `tracestate`, of the caller's span; empty without one."""
    current = getattr(sys.modules.get("opentelemetry.trace"), "get_current_span", None)
    if current is None:  # not there, or another thread is importing it
        return {}
    span = current().get_span_context()
    if not span.is_valid:
        return {}
    ids = f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
    state = span.trace_state.to_header()
    return {"traceparent": ids, "tracestate": state} if state else {"traceparent": ids}


def with_span(data: dict[str, Any]) -> dict[str, Any]:
    """The `data` of a frame, with the caller's span in its `metadata`."""
    headers, metadata = span_headers(), data.get("metadata") or {}
    if not headers or not isinstance(metadata, dict):  # the server refuses what is no object
        return data
    return {**data, "metadata": {**metadata, **headers}}
