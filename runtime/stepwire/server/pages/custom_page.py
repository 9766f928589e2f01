# SPDX-License-Identifier: BSD-3-Clause
"""The author's own Gradio page below `/web`, beside the inspector or in its place.

Gradio, and the modules of the framework that import it, are imported only for such a page. They
take seconds.
"""

import html
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from stepwire.server.pages.web_manager import WebInterfaceManager


@dataclass(frozen=True)
class CustomPage:
    """The arguments of `create_app` that concern `/web`."""

    builder: Callable[..., Any] | None = None
    """Called with `web_manager, action_fields, metadata, is_chat_env, title, quick_start_md`;
    returns a `gradio.Blocks`. `None`: there is only the inspector."""

    tab_name: str = "Custom"
    comes_first: bool = False
    has_default_tab: bool = True
    title: str | None = None
    """Title of the page; `None`: the one that the framework makes of the environment's name."""

    @property
    def is_at_web(self) -> bool:
        """Whether `/web/` itself is the author's page; otherwise it is the inspector."""
        return self.builder is not None and (self.comes_first or not self.has_default_tab)

    @property
    def address(self) -> str:
        """The author's page, seen from `/web/`."""
        return "./" if self.is_at_web or self.builder is None else "custom/"

    @property
    def is_alone(self) -> bool:
        """Whether there is no inspector."""
        return self.builder is not None and not self.has_default_tab


def add_custom_page(app: FastAPI, page: CustomPage, web_manager: WebInterfaceManager) -> None:
    """Build the page and serve it; call this after all other routes below `/web` are added.

    Raises `TypeError` when the builder returns anything but a `gradio.Blocks`.
    """
    if page.builder is None:
        return
    # Read when a page is built: whether Gradio reports its use over the internet.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    import gradio
    from openenv.core.env_server.gradio_theme import OPENENV_GRADIO_CSS, OPENENV_GRADIO_THEME

    path = "/web" if page.is_at_web else "/web/custom"
    if not page.is_at_web:

        @app.get(path, include_in_schema=False)
        async def without_slash() -> RedirectResponse:
            return RedirectResponse("custom/")  # relative, as a proxy may add a prefix

    blocks = _build(page, page.builder, web_manager)
    css = OPENENV_GRADIO_CSS + _TABS_CSS
    gradio.mount_gradio_app(app, blocks, path, theme=OPENENV_GRADIO_THEME, css=css)
    # Fonts from another server. Without internet, the page would wait for them.
    blocks.config["stylesheets"] = []


def _build(page: CustomPage, builder: Callable[..., Any], web_manager: WebInterfaceManager) -> Any:
    """The author's page, below links to it and the inspector unless it is alone."""
    import gradio
    from openenv.core.env_server import web_interface
    from openenv.core.env_server.gradio_ui import get_gradio_display_title

    action_cls, metadata = web_manager.action_cls, web_manager.metadata
    title = page.title or get_gradio_display_title(metadata)
    blocks = builder(
        web_manager,
        web_interface._extract_action_fields(action_cls),
        metadata,
        web_interface._is_chat_env(action_cls),
        title,
        web_interface.get_quick_start_markdown(metadata, action_cls, web_manager.observation_cls),
    )
    if not isinstance(blocks, gradio.Blocks):
        kind = type(blocks).__name__
        raise TypeError(f"gradio_builder must return a gradio.Blocks, not a {kind}")
    if page.is_alone:
        blocks.title = title
        return blocks
    inspector = f'<a href="{"inspector" if page.is_at_web else "../"}">Inspector</a>'
    own = f'<a aria-current="page">{html.escape(page.tab_name)}</a>'
    tabs = [own, inspector] if page.comes_first else [inspector, own]
    with gradio.Blocks(title=title) as outer:
        gradio.HTML(f'<nav class="openenv-tabs">{"".join(tabs)}</nav>')
        blocks.render()
    return outer


_TABS_CSS = """
.openenv-tabs { display: flex; gap: 20px; }
.openenv-tabs a[aria-current] { font-weight: 600; color: inherit; text-decoration: none; }
"""
