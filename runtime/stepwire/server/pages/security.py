# SPDX-License-Identifier: BSD-3-Clause
"""Pages made safe: what may run in them and embed them, escaped values, the form for the token."""

import base64
import hashlib
import html
import re
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from fastapi.responses import HTMLResponse
from pydantic_core import to_json

from stepwire.server.settings import Settings

FILES = Path(__file__).parent / "web"


def page_headers(settings: Settings, **sources: str) -> dict[str, str]:
    """Headers of a page; `sources` are directives of its policy, such as `script_src="'self'"`."""
    directives = {
        "default-src": "'none'",
        **{name.replace("_", "-"): value for name, value in sources.items()},
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": settings.frame_ancestors,
    }
    policy = "; ".join(f"{name} {value}" for name, value in directives.items())
    # Revalidated each time, so that a page never runs with files of another version.
    return {"Content-Security-Policy": policy, "Cache-Control": "no-cache"}


def inline_digests(page: str, tag: str) -> str:
    """Sources that allow the inline content of these elements of a page, and no other."""
    contents = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    digests = [hashlib.sha256(content.encode()).digest() for content in contents]
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


def render_page(file: str, data: Any = None, **values: str) -> str:
    """A page of `web/` with the values filled in, escaped, and `data` as JSON for its script."""
    icon = quote((FILES / "favicon.svg").read_text("utf-8"))
    escaped = {name: html.escape(value) for name, value in values.items()}
    # `<` would end the script; JavaScript has no NaN in JSON.
    json = to_json(data, inf_nan_mode="null").decode().replace("<", "\\u003c")
    return Template((FILES / file).read_text("utf-8")).substitute(escaped, icon=icon, data=json)


def token_page(settings: Settings, is_wrong: bool) -> HTMLResponse:
    """The answer to a browser without the token: a form.

    It sends the token in the address; `access.py` moves it to a cookie.
    """
    hint = "That token is wrong." if is_wrong else "Ask the operator of this server for it."
    page = render_page("token.html", hint=hint)
    headers = page_headers(settings, style_src=inline_digests(page, "style"), img_src="data:")
    return HTMLResponse(page, 401, {**headers, "Cache-Control": "no-store"})
