# SPDX-License-Identifier: BSD-3-Clause
"""How the methods of an environment are called: in threads, unless its class says otherwise.

- `BLOCKING = False` in a class says that its methods return at once: they are called on the event
  loop.
- `reset_async` and `step_async` are awaited on the event loop.
- Any other method may block and is called in a thread. (`state` is a property, and is always read
  on the event loop.)

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
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, TypeAlias

from openenv.core.env_server.interfaces import Environment

logger = logging.getLogger("stepwire.server")

AnyEnvironment: TypeAlias = Environment[Any, Any, Any]
Function: TypeAlias = Callable[..., Any]
Arguments: TypeAlias = tuple[Any, ...]
Keywords: TypeAlias = dict[str, Any]

_MOST_BLOCKED_S = 0.1
# uvicorn switches the loop's debug mode off on Python 3.11, so what turns it on is read here too.
_DEVELOPMENT_MODE = sys.flags.dev_mode or bool(os.environ.get("PYTHONASYNCIODEBUG"))


def _in_development() -> bool:
    return _DEVELOPMENT_MODE or asyncio.get_running_loop().get_debug()


class CallingConvention:
    """How environments of one class are called; found out once, not at every step."""

    def __init__(self, environment_cls: type[AnyEnvironment], threads: Executor) -> None:
        self._class_name = environment_cls.__name__
        self._threads = threads
        self._is_blocking: bool = getattr(environment_cls, "BLOCKING", True)
        self._slow: set[str] = set()
        self._has_warned = False
        self.reset = self._method(environment_cls, "reset")
        self.step = self._method(environment_cls, "step")
        # The constructor, tools, `dump_state` and the rest are called where steps are.
        self.in_threads = self._is_blocking and not self.step.is_async
        self.call = self._call_in_thread if self.in_threads else self._call_on_loop

    def _method(self, environment_cls: type[AnyEnvironment], name: str) -> "Method":
        async_name = f"{name}_async"
        function = getattr(environment_cls, async_name)
        if function is not getattr(Environment, async_name):
            return Method(async_name, _keywords(function), self._await, is_async=True)
        call = self._call_in_thread if self._is_blocking else self._call_on_loop
        return Method(name, _keywords(getattr(environment_cls, name)), call)

    async def _call_in_thread(
        self, function: Function, arguments: Arguments, keywords: Keywords
    ) -> Any:
        # The context goes along: log lines of the environment name their session.
        call = partial(copy_context().run, function, *arguments, **keywords)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def _call_on_loop(
        self, function: Function, arguments: Arguments, keywords: Keywords
    ) -> Any:
        began = perf_counter()
        try:
            return function(*arguments, **keywords)
        finally:
            if (blocked_s := perf_counter() - began) > _MOST_BLOCKED_S:
                self._report(function, blocked_s)

    def _await(
        self, function: Function, arguments: Arguments, keywords: Keywords
    ) -> Awaitable[Any]:
        awaitable: Awaitable[Any] = function(*arguments, **keywords)
        if _in_development():
            return _Timed(awaitable, partial(self._report, function))
        return awaitable

    def _report(self, function: Function, blocked_s: float) -> None:
        name = getattr(function, "__name__", repr(function))
        if isinstance(getattr(function, "__self__", None), Environment):
            name = f"{self._class_name}.{name}"
        if not (_in_development() or self._is_warning_due(name)):
            return
        if self.reset.is_async or self.step.is_async:
            advice = "Await what waits, or leave out the async methods, to be called in threads."
        else:
            advice = f"Remove BLOCKING = False from {self._class_name}, to be called in threads."
        logger.warning(
            "%s took %.1f s on the event loop and held up every session. %s",
            name,
            blocked_s,
            advice,
        )

    def _is_warning_due(self, name: str) -> bool:
        """Whether to warn outside development: once, about a method that was slow before."""
        if self._is_blocking or self._has_warned:
            return False
        # A busy machine can make any call slow once.
        self._has_warned = name in self._slow
        self._slow.add(name)
        return self._has_warned


@dataclass(frozen=True)
class Method:
    """`reset` or `step` of an environment class, or its `async` form."""

    name: str
    keywords: frozenset[str] | None  # those it accepts; None: any
    call: Callable[[Function, Arguments, Keywords], Awaitable[Any]]
    is_async: bool = False

    def accepted(self, keywords: Keywords) -> Keywords:
        """Those of `keywords` that the method accepts."""
        if self.keywords is None:
            return keywords
        return {name: keywords[name] for name in keywords if name in self.keywords}


def _keywords(method: Function) -> frozenset[str] | None:
    parameters = inspect.signature(method).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(parameter.name for parameter in parameters) - {"self", "action"}


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
                if (blocked_s := perf_counter() - began) > _MOST_BLOCKED_S:
                    self._report(blocked_s)
            try:
                sent = yield awaited
            except BaseException as error:  # noqa: BLE001 - passed on to what is awaited
                resume = partial(steps.throw, error)
            else:
                resume = partial(steps.send, sent)
