# SPDX-License-Identifier: BSD-3-Clause
"""What an author asks of `/web`: the arguments of `create_app` that concern the page."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CustomPage:
    """The author's own Gradio page, if any, and how it stands beside the inspector."""

    builder: Callable[..., Any] | None = None
    """Called with `web_manager, action_fields, metadata, is_chat_env, title, quick_start_md`;
    returns a `gradio.Blocks`. `None`: there is only the inspector."""

    tab_name: str = "Custom"
    is_first: bool = False
    has_default_tab: bool = True
    title: str | None = None
    """Title of the page; `None`: the one that the framework makes of the environment's name."""
