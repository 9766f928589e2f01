# SPDX-License-Identifier: BSD-3-Clause
"""Episodes over HTTP: the environment's state travels in a signed cookie of the client.

The server keeps no state, so any worker, replica or later start with the same key continues the
episode. The cookie is signed, not encrypted. Sending an earlier cookie again replays its state.

The signature is bound to one environment: the names of its distribution, module and class, and the
name it is served under. It is not bound to a version, so an update keeps episodes; `load_state`
refuses those that it cannot continue.
"""

import hashlib
import logging
import sys
import time
from multiprocessing import current_process
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from fastapi import Request, Response
from pydantic import SecretStr

from stepwire.server.calling import AnyEnvironment
from stepwire.server.distribution import distribution_of
from stepwire.server.endpoints.cookies import cookie_attributes, cookie_values
from stepwire.server.errors import MessageError
from stepwire.server.session import Session

try:
    from itsdangerous import BadData, URLSafeTimedSerializer
except ModuleNotFoundError:  # `openenv` does not depend on it
    URLSafeTimedSerializer = None  # type: ignore[assignment, misc]

logger = logging.getLogger("stepwire.server")

COOKIE_NAME = "openenv_episode"
# Browsers silently drop a cookie above 4,096 bytes, name and attributes included.
LONGEST_COOKIE = 3800
_MAX_AGE_S = 30 * 24 * 3600
_MAX_SKEW_S = 60  # the clock of the replica that made the cookie may be ahead of this one's
# A browser sends one cookie for each path from here to the root. Each one tried costs a signature.
_MOST_COOKIES = 8


@runtime_checkable
class ResumableEnvironment(Protocol):
    """An environment whose episodes continue over HTTP. Both methods are called like its steps."""

    def dump_state(self) -> dict[str, Any]:
        """Return what `load_state` needs to continue the episode, as JSON values; keep it small."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue the episode that `dump_state` of another instance returned.

        It is called on a new instance, before any step. Raises `ValueError` for a state
        that this version of the environment cannot resume.
        """


class HttpEpisodes:
    """Reads the episode from a request's cookie and writes it to the response's."""

    def __init__(self, secret_key: SecretStr | None, env_name: str) -> None:
        """Without a `secret_key`, all workers of this start share a random one."""
        self._env_name = env_name
        self._key_lasts = secret_key is not None
        # `multiprocessing` makes a random key and passes it to the processes it starts; uvicorn's
        # workers are such processes.
        self._key = (
            secret_key.get_secret_value() if secret_key else bytes(current_process().authkey)
        )
        self._serializers: dict[type[AnyEnvironment], Any] = {}

    def announce(self, environment_cls: type[AnyEnvironment]) -> None:
        """Log what limits the episodes; called when the server starts."""
        if not issubclass(environment_cls, ResumableEnvironment):
            return
        if URLSafeTimedSerializer is None:
            logger.warning("itsdangerous is not installed: HTTP requests share no episode")
        elif not self._key_lasts:
            logger.info("SECRET_KEY is not set: episodes over HTTP end when this server stops")

    def serializer(self, environment_cls: type[AnyEnvironment]) -> Any:
        """The signer of this class's cookies; `None` if its environments have no cookies."""
        if environment_cls not in self._serializers:
            self._serializers[environment_cls] = self._make_serializer(environment_cls)
        return self._serializers[environment_cls]

    def _make_serializer(self, environment_cls: type[AnyEnvironment]) -> Any:
        if URLSafeTimedSerializer is None or not issubclass(environment_cls, ResumableEnvironment):
            return None
        return URLSafeTimedSerializer(
            self._key,
            # Another environment with the same key rejects these cookies.
            salt=f"{COOKIE_NAME} {(*_identity(environment_cls), self._env_name)}",
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )

    async def resume(self, request: Request, session: Session) -> None:
        """Continue the request's episode, if it has one, in a new session.

        Raises `MessageError` when the request has cookies but none is valid: the client would
        mistake a new episode for the old one.
        """
        cookies = cookie_values(request, COOKIE_NAME)
        if not cookies or (serializer := self.serializer(type(session.environment))) is None:
            return
        for cookie in cookies[:_MOST_COOKIES]:
            try:
                state, made = serializer.loads(cookie, return_timestamp=True)
            except BadData:
                continue
            if -_MAX_SKEW_S <= time.time() - made.timestamp() <= _MAX_AGE_S:
                await session.load_state(state)
                return
        raise MessageError.invalid(
            "episode_cookie",
            ("cookie", COOKIE_NAME),
            "The episode is over: its cookie was not made by this server, is older than 30 days, "
            "or was signed with another key. POST /reset starts a new one.",
            cookies[0][:20] + "…",  # not all of it: the cookie is hidden from scripts
        )

    async def keep(self, request: Request, session: Session, response: Response) -> Response:
        """Add the session's episode to `response` and return the response.

        Raises `MessageError` when it is too large for a cookie; the client keeps its old one.
        """
        serializer = self.serializer(type(session.environment))
        if serializer is None:
            return response
        state = await session.dump_state()
        cookie: str = serializer.dumps(state)
        if len(cookie) > LONGEST_COOKIE:
            raise MessageError.invalid(
                "episode_too_large",
                ("cookie", COOKIE_NAME),
                f"The episode's state takes {len(cookie)} bytes as a cookie; the limit is "
                f"{LONGEST_COOKIE}. Sessions on /ws have no such limit.",
                len(cookie),
            )
        response.headers.append(
            "set-cookie", f"{COOKIE_NAME}={cookie}; {cookie_attributes(request)}"
        )
        return response


def _identity(environment_cls: type[AnyEnvironment]) -> tuple[str, str, str]:
    """Identifies the environment: the names of its distribution, module and class."""
    module = environment_cls.__module__
    if module in ("__main__", "__mp_main__"):  # its name depends on how the server was started
        main: Any = sys.modules[module]
        spec = main.__spec__
        module = spec.name if spec else Path(getattr(main, "__file__", module)).stem
    return distribution_of(module).name, module, environment_cls.__qualname__
