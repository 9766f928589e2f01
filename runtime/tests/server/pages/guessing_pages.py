# SPDX-License-Identifier: BSD-3-Clause
"""The guessing game with an author's own page in all its places, and on the framework's server.

Each application is below a path of its own. One process serves them, as importing Gradio takes
seconds.
"""

import os

os.environ["ENABLE_WEB_INTERFACE"] = "true"

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import gradio
from guessing import Guess, Guessing, Hint
from openenv.core.env_server.gradio_ui import build_gradio_app
from openenv.core.env_server.http_server import create_app as create_stock_app
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from stepwire.server import create_app


def build(
    web_manager: Any,
    action_fields: Any,
    metadata: Any,
    is_chat_env: bool,
    title: str,
    quick_start_md: str,
) -> Any:
    """Has a button for each of what pages of the framework's authors do."""
    question = web_manager.env.name  # as some read it when they build the page

    async def reset(secret: float) -> dict[str, Any]:
        result: dict[str, Any] = await web_manager.reset_environment({"secret": int(secret)})
        return result

    async def guess(number: float) -> dict[str, Any]:
        result: dict[str, Any] = await web_manager.step_environment({"number": int(number)})
        return result

    def state() -> dict[str, Any]:
        result: dict[str, Any] = web_manager.get_state()
        return result

    async def close() -> dict[str, Any]:
        await web_manager._run_sync_in_thread_pool(web_manager.env.close)
        return {"closed": True}

    def episode() -> dict[str, Any]:
        result: dict[str, Any] = web_manager.episode_state.model_dump()
        return result

    def given() -> dict[str, Any]:
        return {
            "action_fields": action_fields,
            "metadata": metadata.model_dump(),
            "is_chat_env": is_chat_env,
            "title": title,
            "quick_start_md": quick_start_md,
            "classes": [web_manager.action_cls.__name__, web_manager.observation_cls.__name__],
            "same metadata": web_manager.metadata is metadata,
        }

    with gradio.Blocks(title="Replaced") as blocks:
        gradio.Markdown(f"# Guess {question}")
        number = gradio.Number(7, label="Number")
        answer = gradio.JSON(label="Answer")
        for function in (reset, guess, state, close, episode, given):
            inputs = [number] if function in (reset, guess) else []
            button = gradio.Button(function.__name__.capitalize())
            button.click(function, inputs, answer, api_name=function.__name__)
    return blocks


def _serve(create: Callable[..., Any], **options: Any) -> Any:
    return create(Guessing, Guess, Hint, "guessing", gradio_builder=build, **options)


_SERVED = {
    "/playground": create_app(
        Guessing, Guess, Hint, gradio_builder=build_gradio_app, show_default_tab=False
    ),
    "/stock": _serve(create_stock_app),
    "/beside": _serve(create_app, custom_tab_name="Play & guess"),
    "/first": _serve(create_app, custom_tab_primary=True, title_override="Guess it!"),
    "/alone": _serve(create_app, show_default_tab=False),
}


@asynccontextmanager
async def _lifespan(_: Any) -> AsyncIterator[None]:
    async with AsyncExitStack() as running:
        for application in _SERVED.values():
            await running.enter_async_context(application.router.lifespan_context(application))
        yield


app = Starlette(
    routes=[
        Route("/health", lambda _: PlainTextResponse("healthy")),
        *(Mount(path, application) for path, application in _SERVED.items()),
    ],
    lifespan=_lifespan,
)
