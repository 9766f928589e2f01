# SPDX-License-Identifier: BSD-3-Clause
"""`/web` and the addresses that lead to it, also below a path prefix."""

import os
import re
from collections.abc import Callable
from typing import Any

import pytest
import requests


@pytest.mark.parametrize("path", ["/", "/web"])
def test_other_addresses_lead_to_the_page(server: Any, path: str) -> None:
    response = requests.get(server.url + path, allow_redirects=False, timeout=60)
    assert (response.status_code, response.headers["Location"]) == (307, "web/")
    assert requests.get(server.url + path, timeout=60).url == server.url + "/web/"


def test_the_page_works_below_a_path_prefix(environments: Any) -> None:
    response = requests.get(environments.url + "/full/", timeout=60)
    assert response.url == environments.url + "/full/web/"
    assert response.headers["Content-Type"].startswith("text/html")


def test_the_page_loads_nothing_from_other_servers(server: Any) -> None:
    page = requests.get(server.url + "/web", timeout=60).text
    assert "<html" in page
    for address in ('src="http', 'src="/', 'href="http', 'href="/', "url(http"):
        assert address not in page


def test_only_files_of_the_page_are_served(server: Any) -> None:
    for path in ("nope.js", "%2e%2e/app.py", "..%2fapp.py", ""):
        assert requests.get(f"{server.url}/web/inspector/{path}", timeout=60).status_code == 404


def test_the_policy_of_the_page(server: Any) -> None:
    headers = requests.get(server.url + "/web", timeout=60).headers
    assert headers["Content-Security-Policy"].split("; ") == [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src data:",
        "require-trusted-types-for 'script'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'self' https://huggingface.co https://*.hf.space",
    ]
    assert headers["Cache-Control"] == "no-cache"
    assert "X-Frame-Options" not in headers
    file = requests.get(server.url + "/web/inspector/inspector.js", timeout=60)
    assert file.headers["Cache-Control"] == "no-cache"
    assert file.headers["Content-Type"].startswith("text/javascript")


_TOKEN = "a-rather-long-secret"


@pytest.fixture(scope="module")
def guarded(
    start_shared_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """A server with a token, whose environment is installed and whose pages no site may embed."""
    folder = tmp_path_factory.mktemp("packages")
    installed = folder / "notes_env-4.5.6.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: notes-env\nVersion: 4.5.6\n")
    (installed / "top_level.txt").write_text("notes_env\n")
    path = os.pathsep.join([str(folder), os.environ["PYTHONPATH"]])
    env = {"API_TOKEN": _TOKEN, "FRAME_ANCESTORS": "'none'", "PYTHONPATH": path}
    return start_shared_server(env=env)


def _versions(server: Any) -> tuple[str, str | None, str, str]:
    """As `/web`, `/metadata` and `/docs` show them; the last one is the contract's."""

    def get(path: str) -> requests.Response:
        headers = {"Authorization": f"Bearer {_TOKEN}"}
        return requests.get(server.url + path, headers=headers, timeout=60)

    info = get("/openapi.json").json()["info"]
    shown = re.search(r"Server ([^<]+)<", get("/web").text)
    assert shown is not None
    subject = info["description"].split(". ")[0]
    return shown[1], get("/metadata").json()["version"], subject, info["version"]


def test_the_version_shown_is_that_of_the_environments_distribution(
    guarded: Any, server: Any
) -> None:
    subject = "Reset, step and observe an environment"
    assert _versions(guarded) == ("4.5.6", "4.5.6", f"{subject}: notes-env 4.5.6", "1.0.0")
    assert _versions(server) == ("from a checkout", None, subject, "1.0.0")


def test_a_browser_without_the_token_gets_a_form(guarded: Any) -> None:
    for path in ("/web", "/docs", "/"):
        answer = requests.get(guarded.url + path, headers={"Accept": "text/html"}, timeout=60)
        assert (answer.status_code, answer.headers["Cache-Control"]) == (401, "no-store")
        assert '<input name="token" type="password"' in answer.text
        policy = answer.headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert policy.endswith("frame-ancestors 'none'")
    assert requests.get(guarded.url + "/web", timeout=60).json()["detail"]  # not a browser


@pytest.mark.parametrize("file", ["index.html", "token.html", "INDEX.HTML", "./index.html"])
def test_the_pages_are_not_served_without_their_policy(server: Any, file: str) -> None:
    for folder in ("web", "web/inspector"):
        answer = requests.get(f"{server.url}/{folder}/{file}", timeout=60)
        assert answer.status_code == 404, folder
