# SPDX-License-Identifier: BSD-3-Clause
"""A Gradio page of the author's own, beside the routes that such pages call."""

import os
from typing import Any

from compatibility.environments.plain import Add, Adding, Total
from compatibility.served_by import create_app

os.environ["ENABLE_WEB_INTERFACE"] = "true"


def build_page(
    web_manager: Any,
    action_fields: list[dict[str, Any]],
    metadata: Any,
    is_chat_env: bool,
    title: str,
    quick_start_md: str,
) -> Any:
    import gradio

    with gradio.Blocks(title=title) as page:
        gradio.Markdown(f"# {metadata.name}: {[field['name'] for field in action_fields]}")
        result = gradio.JSON()

        async def restart() -> Any:
            return await web_manager.reset_environment()

        gradio.Button("Reset").click(restart, outputs=result, api_name="restart")
    return page


app = create_app(
    Adding,
    Add,
    Total,
    "adding",
    gradio_builder=build_page,
    custom_tab_name="Sums",
    show_default_tab=False,
    title_override="All sums",
)
