# SPDX-License-Identifier: BSD-3-Clause
"""Traces by OpenTelemetry: what a client's trace shows of the server and of the environment.

`tracing` is `None` unless `TRACES=on`: then nothing of OpenTelemetry is imported. The client's span
is that of the frame's `metadata`, else that of the handshake or the request, in the form of W3C's
Trace Context.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from threading import Thread
from time import monotonic
from typing import Any

from starlette.types import Scope

from stepwire.server.settings import Settings, exit_with_error

_EXTRA = "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"
_LAST_S = 2.0  # that a stopping server waits for the collector
_POLL_S = 0.02
_FIELDS = ("traceparent", "tracestate")

Carrier = dict[str, str]


class Tracing:
    """Makes the spans of this process."""

    def __init__(self) -> None:
        """Spans go where OTEL_EXPORTER_OTLP_ENDPOINT says, unless the program has set up others."""
        from opentelemetry import context, trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._context = context
        self._kind = trace.SpanKind.SERVER
        self._propagator = TraceContextTextMapPropagator()
        self._own: Any = None
        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            self._own = _new_provider()
            trace.set_tracer_provider(self._own)
        self._tracer = trace.get_tracer("stepwire.server")

    @contextmanager
    def within(self, carrier: Carrier) -> Iterator[None]:
        """A block whose spans, also those of tasks that it creates, are below the client's."""
        token = self._context.attach(self._propagator.extract(carrier, self._context.Context()))
        try:
            yield
        finally:
            self._context.detach(token)

    def serving(self, name: str, carrier: Carrier, session_id: str) -> AbstractContextManager[Any]:
        """A block that answers a request of the client's span in `carrier`, else of the current."""
        return self._tracer.start_as_current_span(
            name,
            self._propagator.extract(carrier) if carrier else None,
            self._kind,
            {"session.id": session_id} if session_id else None,
        )

    def of_environment(
        self, function: Callable[..., Any], name: str, is_async: bool
    ) -> Callable[..., Any]:
        """A method of the environment with a span of its own, wherever it is called.

        Spans that the environment makes meanwhile are below it.
        """
        context = self._context.get_current()

        @contextmanager
        def span() -> Iterator[None]:
            token = self._context.attach(context)
            try:
                with self._tracer.start_as_current_span(name):
                    yield
            finally:
                self._context.detach(token)

        def call(*arguments: Any, **keywords: Any) -> Any:
            with span():
                return function(*arguments, **keywords)

        async def call_async(*arguments: Any, **keywords: Any) -> Any:
            with span():
                return await function(*arguments, **keywords)

        call.__name__ = call_async.__name__ = name  # for log lines
        return call_async if is_async else call

    def flush(self) -> Thread | None:
        """Begin to send what is left, if the process has no other use for it."""
        if self._own is None:
            return None
        flushing = Thread(
            target=self._own.force_flush, args=(int(_LAST_S * 1000),), daemon=True, name="traces"
        )
        flushing.start()
        return flushing


def _new_provider() -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # At the end of the process nothing is waited for: `flush` has had its time.
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


tracing: Tracing | None = None


def require(settings: Settings) -> None:
    """End the process with one line on stderr if traces are on and their packages are missing."""
    if settings.traces == "on" and not all(map(_is_installed, _EXTRA)):
        exit_with_error("TRACES=on needs OpenTelemetry: pip install 'stepwire[traces]'")


def start(settings: Settings) -> None:
    """Begin to trace, if the setting says so; called when an application starts."""
    global tracing
    if settings.traces == "on" and tracing is None:
        tracing = Tracing()


async def stop() -> None:
    """Send what is left, unless the collector does not take it in time."""
    flushing = None if tracing is None else tracing.flush()
    give_up_at = monotonic() + _LAST_S
    while flushing is not None and flushing.is_alive() and monotonic() < give_up_at:  # noqa: ASYNC110
        await asyncio.sleep(_POLL_S)


def serving(name: str, carrier: Carrier, session_id: str) -> AbstractContextManager[Any]:
    """`Tracing.serving` of this process."""
    return nullcontext() if tracing is None else tracing.serving(name, carrier, session_id)


def carrier_of_scope(scope: Scope) -> Carrier:
    """The client's span in the headers of a request or a handshake."""
    headers = dict(scope["headers"])
    found = {field: headers.get(field.encode()) for field in _FIELDS}
    return {field: value.decode("latin-1") for field, value in found.items() if value}


def take_carrier(metadata: Any) -> Carrier:
    """Take the client's span out of the `metadata` of a request; the environment needs none."""
    if not isinstance(metadata, dict):
        return {}
    taken = {name: metadata.pop(name) for name in _FIELDS if name in metadata}
    return {name: value for name, value in taken.items() if isinstance(value, str)}


def take_carrier_of_reset(arguments: dict[str, Any]) -> Carrier:
    """`take_carrier`; a `metadata` that held nothing else is no argument of the environment."""
    carrier = take_carrier(arguments.get("metadata"))
    if carrier and not arguments["metadata"]:
        del arguments["metadata"]
    return carrier


def call_in_trace(
    call: Callable[..., Awaitable[Any]], name: str, is_async: bool
) -> Callable[..., Awaitable[Any]]:
    """`call`, a `Call` of `calling.py`, with a span around the function that it calls."""
    if (traces := tracing) is None:
        return call
    return lambda function, *more: call(traces.of_environment(function, name, is_async), *more)


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
