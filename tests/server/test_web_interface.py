# SPDX-License-Identifier: BSD-3-Clause
"""`/web` and what leads to it; every address is relative, so that a path prefix changes nothing."""

from typing import Any

import pytest
import requests


@pytest.mark.parametrize(("path", "target"), [("/", "web"), ("/web/", "../web")])
def test_other_addresses_lead_to_the_page(server: Any, path: str, target: str) -> None:
    response = requests.get(server.url + path, allow_redirects=False, timeout=60)
    assert (response.status_code, response.headers["Location"]) == (307, target)
    assert requests.get(server.url + path, timeout=60).url == server.url + "/web"


def test_the_page_works_below_a_path_prefix(environments: Any) -> None:
    response = requests.get(environments.url + "/full/", timeout=60)
    assert response.url == environments.url + "/full/web"
    assert response.headers["Content-Type"].startswith("text/html")


def test_the_page_loads_nothing_from_elsewhere(server: Any) -> None:
    page = requests.get(server.url + "/web", timeout=60).text
    assert "<html" in page
    for address in ('src="http', 'src="/', 'href="http', 'href="/', "url(http"):
        assert address not in page


def test_only_files_of_the_page_are_served(server: Any) -> None:
    for path in ("/web/nope.js", "/web/%2e%2e/app.py", "/web/..%2fapp.py"):
        assert requests.get(server.url + path, timeout=60).status_code == 404
