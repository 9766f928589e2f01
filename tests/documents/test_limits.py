# SPDX-License-Identifier: BSD-3-Clause
"""`docs/limits.md` and `docs/upstream.md`: the tests and settings that they name exist."""

import re

import pytest

from document import ROOT, Document
from stepwire.server import Settings

_LIMITS = Document("docs/limits.md")
_UPSTREAM = Document("docs/upstream.md")
_TESTS = {
    name
    for folder in (ROOT / "tests", ROOT / "runtime" / "tests")
    for file in folder.rglob("test_*.py")
    for name in re.findall(r"^ *(?:async )?def (test_\w+)\(", file.read_text("utf-8"), re.MULTILINE)
}


@pytest.mark.parametrize("page", [_LIMITS, _UPSTREAM], ids=["limits", "upstream"])
def test_every_row_names_tests_that_exist(page: Document) -> None:
    rows = re.findall(r"^\| (?!---|What |Library )(.+) \|$", page.text, re.MULTILINE)
    assert rows
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row.rsplit("|", 1)[1])
        assert named, row
        assert set(named) <= _TESTS, row


def test_every_setting_exists() -> None:
    names = set(re.findall(r"\| `([A-Z_]+)` \|", _LIMITS.text))
    assert {name.lower() for name in names} <= set(Settings.model_fields)


def test_every_default_is_that_of_the_setting() -> None:
    text = _LIMITS.text
    assert f"{Settings.model_fields['request_timeout_s'].default} s | `REQUEST_TIMEOUT_S`" in text
    assert Settings.model_fields["max_message_bytes"].default == 16 * 1024 * 1024
