# SPDX-License-Identifier: BSD-3-Clause
"""Episodes over HTTP: the environment's state travels in a signed cookie of the client.

The server remembers nothing, so any worker, replica or later start with the same key goes on where
the last request left off. The cookie is signed, not encrypted, and its holder decides which one to
send: a cookie that is sent again replays the state it holds.
"""

import hashlib
import logging
from multiprocessing import current_process
from typing import Any, Protocol, runtime_checkable

from fastapi import Request, Response
from pydantic import SecretStr

from stepwire.server.endpoints.cookies import cookie_attributes, cookie_values
from stepwire.server.errors import MessageError
from stepwire.server.sessions import AnyEnvironment, Session

try:
    from itsdangerous import BadData, URLSafeTimedSerializer
except ModuleNotFoundError:  # this package's own dependencies may be left out on `openenv`
    URLSafeTimedSerializer = None  # type: ignore[assignment, misc]

logger = logging.getLogger("stepwire.server")

COOKIE_NAME = "openenv_episode"
# Browsers drop a cookie of more than 4,096 bytes, name and attributes included, without a word.
LONGEST_COOKIE = 3800
_GOOD_FOR_S = 30 * 24 * 3600


@runtime_checkable
class ResumableEnvironment(Protocol):
    """What an environment has to have for its episodes to go on over HTTP.

    Both methods are called like its steps: on the event loop when these are `async`, in a thread
    otherwise.
    """

    def dump_state(self) -> dict[str, Any]:
        """All that the episode needs to go on, as JSON values; the less, the better."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on where `dump_state` of another instance left off; called before any step.

        Raises `ValueError` for a state that this version of the environment cannot resume.
        """


class HttpEpisodes:
    """Takes a request's episode out of its cookie, and puts it back into the response's."""

    def __init__(self, environment_cls: type[AnyEnvironment], secret_key: SecretStr | None) -> None:
        """Without `secret_key`: a random one, shared by all workers of this start."""
        self._resumable = issubclass(environment_cls, ResumableEnvironment)
        self._key_lasts = secret_key is not None
        self._serializer: Any = None
        if self._resumable and URLSafeTimedSerializer is not None:
            self._serializer = URLSafeTimedSerializer(
                # That of `multiprocessing` is random, and passed on to the processes it starts,
                # which is how uvicorn starts its workers.
                secret_key.get_secret_value() if secret_key else bytes(current_process().authkey),
                # Another environment with the same key does not take these cookies for its own.
                salt=f"{COOKIE_NAME} {environment_cls.__qualname__}",
                signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
            )

    def announce(self) -> None:
        """Log what limits the episodes, when the server starts."""
        if self._serializer is not None and not self._key_lasts:
            logger.info("SECRET_KEY is not set: episodes over HTTP end when this server stops")
        elif self._serializer is None and self._resumable:
            logger.warning("itsdangerous is not installed: HTTP requests share no episode")

    async def resume(self, request: Request, session: Session) -> None:
        """Let a new session go on with the request's episode, if it has one.

        Raises `MessageError` when the request has a cookie and none that can be believed: a new
        episode in its place would be taken for the old one.
        """
        cookies = cookie_values(request, COOKIE_NAME)
        if self._serializer is None or not cookies:
            return
        for cookie in cookies:
            try:
                state = self._serializer.loads(cookie, max_age=_GOOD_FOR_S)
            except BadData:
                continue
            await session.load_state(state)
            return
        raise MessageError.invalid(
            "episode_cookie",
            ("cookie", COOKIE_NAME),
            "The episode is over: its cookie was not made by this server, is older than 30 days, "
            "or was signed with another key. POST /reset starts a new one.",
            cookies[0][:20] + "…",  # scripts of a page may not read it
        )

    async def keep(self, request: Request, session: Session, response: Response) -> Response:
        """Put the session's episode into `response` and return it.

        Raises `MessageError` when it does not fit; the client's cookie stays as it was.
        """
        if self._serializer is None:
            return response
        state = await session.dump_state()
        cookie: str = self._serializer.dumps(state)
        if len(cookie) > LONGEST_COOKIE:
            raise MessageError.invalid(
                "episode_too_large",
                ("cookie", COOKIE_NAME),
                f"The episode's state takes {len(cookie)} bytes as a cookie, {LONGEST_COOKIE} are "
                "the limit. A connection to /ws has none.",
                len(cookie),
            )
        response.headers.append(
            "set-cookie", f"{COOKIE_NAME}={cookie}; {cookie_attributes(request)}"
        )
        return response
