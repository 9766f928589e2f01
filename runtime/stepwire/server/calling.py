# SPDX-License-Identifier: BSD-3-Clause
"""How the methods of an environment are called: in its thread, unless its class says otherwise.

- An environment has a thread of its own, as on the stock servers: it is made, called and closed
  there. Calls share a context, so context variables last from one call to the next.
- `reset_async` and `step_async` are awaited on the event loop. With `step_async`, so are tools, and
  `state` is read there; the constructor, `close` and a synchronous `reset` keep their thread.
- `BLOCKING = False` in a class says that its methods return at once: all are called on the event
  loop, and there is no thread.

A call that blocks the event loop holds up every session of the worker. A class that says
`BLOCKING = False` is warned about once, when a method of it blocks repeatedly. Development mode
(`python -X dev`, or asyncio's debug mode) warns about every such call, `async` methods included.
"""

import asyncio
import inspect
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Generator
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from itertools import count
from time import perf_counter, perf_counter_ns
from typing import Any, TypeAlias

from openenv.core.env_server.interfaces import Environment

from stepwire.server.logs import ServedSession, current_session
from stepwire.server.observing.metrics import ENABLED, EPISODES, counts
from stepwire.server.observing.traces import call_in_trace
from stepwire.server.threads import CallThread

logger = logging.getLogger("stepwire.server")

AnyEnvironment: TypeAlias = Environment[Any, Any, Any]
Function: TypeAlias = Callable[..., Any]
Arguments: TypeAlias = tuple[Any, ...]
Keywords: TypeAlias = dict[str, Any]
Call: TypeAlias = Callable[[Function, Arguments, Keywords], Awaitable[Any]]

_MOST_BLOCKED_S = 0.1
# uvicorn switches the loop's debug mode off on Python 3.11, so what turns it on is read here too.
_DEVELOPMENT_MODE = sys.flags.dev_mode or bool(os.environ.get("PYTHONASYNCIODEBUG"))
_NO_KEYWORDS: Keywords = {}
_thread_numbers = count()


def _in_development() -> bool:
    return _DEVELOPMENT_MODE or asyncio.get_running_loop().get_debug()


def needs_thread(environment_cls: type[AnyEnvironment]) -> bool:
    """Whether environments of the class are made and closed in a thread."""
    return bool(getattr(environment_cls, "BLOCKING", True))


def steps_in_thread(environment_cls: type[AnyEnvironment]) -> bool:
    """Whether environments of the class take their steps in a thread."""
    return needs_thread(environment_cls) and not _is_async(environment_cls, "step")


def new_thread() -> CallThread:
    """A thread for environments."""
    return CallThread(f"environment_{next(_thread_numbers)}")


class SessionThread:
    """The thread of one session. It ends with the session, unless sessions share it."""

    __slots__ = ("_context", "_is_shared", "_thread", "is_busy")

    def __init__(self, shared: CallThread | None) -> None:
        self._is_shared = shared is not None
        self._thread = shared or new_thread()
        self._context = copy_context()
        self.is_busy = False  # a call of this session has begun and has not returned

    @property
    def is_current(self) -> bool:
        """Whether the caller runs in this thread."""
        return self._thread.is_current

    def serve(self, session: ServedSession | None) -> None:
        """Have log lines of further calls name the session."""
        self._context.run(current_session.set, session)

    def call(
        self, function: Function, arguments: Arguments, keywords: Keywords
    ) -> "asyncio.Future[Any]":
        """Call in the thread, after the calls requested so far."""
        run = self._context.run
        return self._thread.call(partial(run, self._run, function, arguments, keywords))

    def end(self) -> None:
        """End the thread after the calls requested so far; does not wait for them."""
        # The session and the context refer to each other.
        self._thread.call(partial(self.serve, None))
        if not self._is_shared:
            self._thread.end()

    def _run(self, function: Function, arguments: Arguments, keywords: Keywords) -> Any:
        self.is_busy = True
        try:
            return function(*arguments, **keywords)
        except BaseException:
            if (session := current_session.get()) is not None:
                session.note_episode()  # for the log line, which is written in another thread
            raise
        finally:
            self.is_busy = False


class Caller:
    """Calls the methods of one environment, each where it belongs."""

    __slots__ = (
        "_blocking",
        "_convention",
        "_environment",
        "_step",
        "_take_step",
        "_thread",
        "call",
        "step_span",
    )

    def __init__(
        self,
        environment: AnyEnvironment,
        convention: "CallingConvention",
        thread: SessionThread | None,
    ) -> None:
        """`thread` is the one that the environment was made in, if any."""
        on_loop = convention.call_on_loop
        self._environment = environment
        self._convention = convention
        self._thread = thread
        self._blocking: Call = on_loop if thread is None else thread.call
        step = convention.step
        self._take_step: Call = convention.await_on_loop if step.is_async else self._blocking
        self._step: Function = getattr(environment, step.name)
        self.step_span: list[int] | None = None
        """When the last step began and ended in its thread; `None` where that is not measured."""
        if ENABLED and thread is not None and not step.is_async:
            self.step_span = [0, 0]
            self._step = _timed(self._step, self.step_span)
        self._take_step = call_in_trace(self._take_step, self._name_of(step), step.is_async)
        # State and tools are called where the steps are.
        self.call: Call = on_loop if step.is_async else self._blocking

    @property
    def is_here(self) -> bool:
        """Whether the environment's `state` may be read here: where its steps are."""
        return self._thread is None or self._thread.is_current != self._convention.step.is_async

    def serve(self, session: ServedSession) -> None:
        """Have log lines of further calls name the session."""
        if self._thread is not None:
            self._thread.serve(session)

    def reset(self, arguments: Keywords) -> Awaitable[Any]:
        """Reset the environment, with those of the arguments that it accepts."""
        counts[EPISODES] += 1
        method = self._convention.reset
        call: Call = self._convention.await_on_loop if method.is_async else self._blocking
        call = call_in_trace(call, self._name_of(method), method.is_async)
        return call(getattr(self._environment, method.name), (), method.accepted(arguments))

    def _name_of(self, method: "Method") -> str:
        return f"{type(self._environment).__name__}.{method.name}"

    def step(self, action: Any, arguments: Keywords | None) -> Awaitable[Any]:
        """Take a step, with those of the arguments that the environment accepts."""
        keywords = self._convention.step.accepted(arguments) if arguments else _NO_KEYWORDS
        return self._take_step(self._step, (action,), keywords)

    async def close(self, log_failure: Callable[[Exception], Any]) -> None:
        """Close the environment and end its thread, after the calls requested so far.

        A call that has begun and been abandoned is not waited for.
        """

        def log(closed: "asyncio.Future[Any]") -> None:
            if not closed.cancelled() and isinstance(error := closed.exception(), Exception):
                log_failure(error)

        if self._thread is None:  # each HTTP request gets here, so without a task
            try:
                await self._blocking(self._environment.close, (), {})
            except Exception as error:  # noqa: BLE001 - the session is over, so it is only logged
                log_failure(error)
            return
        is_busy = self._thread.is_busy
        closing = asyncio.ensure_future(self._blocking(self._environment.close, (), {}))
        closing.add_done_callback(log)
        self._thread.end()
        if not is_busy:
            await asyncio.wait([closing])


def _timed(function: Function, span: list[int]) -> Function:
    """`function`, noting in `span` when it began and when it ended."""

    def timed(*arguments: Any, **keywords: Any) -> Any:
        span[0] = perf_counter_ns()
        try:
            return function(*arguments, **keywords)
        finally:
            span[1] = perf_counter_ns()

    return timed


class CallingConvention:
    """How environments of one class are called; found out once, not at every step."""

    def __init__(self, environment: AnyEnvironment, *, for_page: bool = False) -> None:
        """`for_page`: a class that overrides `step` only is stepped with it, as on the framework's
        page, though it inherits a `step_async`.
        """
        self._class_name = type(environment).__name__
        self._slow: set[str] = set()
        self._has_warned = False
        self.needs_thread = needs_thread(type(environment))
        self.reset = _method(environment, "reset")
        is_async = _is_async(environment, "step")
        if for_page and _overrides_only_sync(environment, "step"):
            is_async = False
        self.step = _method_in_form(environment, "step", is_async)

    async def call_on_loop(
        self, function: Function, arguments: Arguments, keywords: Keywords
    ) -> Any:
        """Call on the event loop."""
        began = perf_counter()
        try:
            return function(*arguments, **keywords)
        finally:
            self.report(function, perf_counter() - began)

    def await_on_loop(
        self, function: Function, arguments: Arguments, keywords: Keywords
    ) -> Awaitable[Any]:
        """Call an `async` method."""
        awaitable: Awaitable[Any] = function(*arguments, **keywords)
        if _in_development():
            return _Timed(awaitable, partial(self.report, function))
        return awaitable

    def report(self, function: Function, blocked_s: float) -> None:
        """Warn about a call that blocked the event loop, where that is due."""
        if blocked_s <= _MOST_BLOCKED_S:
            return
        name = getattr(function, "__name__", repr(function))
        if isinstance(getattr(function, "__self__", None), Environment):
            name = f"{self._class_name}.{name}"
        if not (_in_development() or self._is_warning_due(name)):
            return
        if self.reset.is_async or self.step.is_async:
            advice = "Await what blocks, or remove the async methods so that it runs in a thread."
        else:
            advice = f"Remove BLOCKING = False from {self._class_name} so that it runs in a thread."
        logger.warning(
            "%s took %.1f s on the event loop and held up every session. %s",
            name,
            blocked_s,
            advice,
        )

    def _is_warning_due(self, name: str) -> bool:
        """Whether to warn outside development: once, about a method that was slow before."""
        if self.needs_thread or self._has_warned:
            return False
        # A busy machine can make any call slow once.
        self._has_warned = name in self._slow
        self._slow.add(name)
        return self._has_warned


@dataclass(frozen=True)
class Method:
    """`reset` or `step` of an environment, or its `async` form."""

    name: str
    is_async: bool
    keywords: frozenset[str] | None  # those it accepts; None: any

    def accepted(self, keywords: Keywords) -> Keywords:
        """Those of `keywords` that the method accepts."""
        if self.keywords is None:
            return keywords
        return {name: keywords[name] for name in keywords if name in self.keywords}


def _method(environment: AnyEnvironment, name: str) -> Method:
    return _method_in_form(environment, name, _is_async(environment, name))


def _method_in_form(environment: AnyEnvironment, name: str, is_async: bool) -> Method:
    name = f"{name}_async" if is_async else name
    return Method(name, is_async, _keywords(getattr(environment, name)))


def _is_async(environment: AnyEnvironment | type[AnyEnvironment], name: str) -> bool:
    """Whether the method has an `async` form of the environment's own."""
    name = f"{name}_async"
    function = getattr(environment, name, None)
    return getattr(function, "__func__", function) not in (None, getattr(Environment, name))


def _overrides_only_sync(environment: AnyEnvironment, name: str) -> bool:
    """Whether the most derived class that has a form of the method has only the synchronous one."""
    owners = (environment, *type(environment).__mro__)
    contents = (getattr(owner, "__dict__", {}) for owner in owners)
    forms = {name, f"{name}_async"}
    return next(found for names in contents if (found := forms & names.keys())) == {name}


def _keywords(bound: Function) -> frozenset[str] | None:
    try:
        parameters = inspect.signature(bound).parameters.values()
    except (TypeError, ValueError):  # a callable that does not say
        return None
    kinds = {parameter.kind for parameter in parameters}
    if inspect.Parameter.VAR_KEYWORD in kinds:
        return None
    return frozenset(
        parameter.name
        for parameter in parameters
        if parameter.kind is not inspect.Parameter.VAR_POSITIONAL
    )


class _Timed:
    """Awaits `awaitable` and reports each stretch in which it blocks the event loop."""

    def __init__(self, awaitable: Awaitable[Any], report: Callable[[float], None]) -> None:
        self._awaitable = awaitable
        self._report = report

    def __await__(self) -> Generator[Any, Any, Any]:
        steps: Any = self._awaitable.__await__()
        resume: Callable[[], Any] = partial(steps.send, None)
        while True:
            began = perf_counter()
            try:
                awaited = resume()
            except StopIteration as returned:
                return returned.value
            finally:
                self._report(perf_counter() - began)
            try:
                sent = yield awaited
            except BaseException as error:  # noqa: BLE001 - passed on to what is awaited
                resume = partial(steps.throw, error)
            else:
                resume = partial(steps.send, sent)
