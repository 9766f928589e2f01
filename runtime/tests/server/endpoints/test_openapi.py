# SPDX-License-Identifier: BSD-3-Clause
"""Requests generated from `/openapi.json`, valid and invalid, are answered as it says."""

from pathlib import Path
from typing import Any

import pytest

_CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    # Not that what violates a schema is refused: JSON-RPC answers its errors with 200.
    "positive_data_acceptance",
    "unsupported_method",
)


@pytest.mark.fuzz
def test_every_request_is_answered_as_described(server: Any, run: Any) -> None:
    done = run(
        *("-c", "from schemathesis.cli import schemathesis; schemathesis()"),
        *("run", f"{server.url}/openapi.json", "--checks", ",".join(_CHECKS)),
        *("--max-examples", "20", "--seed", "1", "--no-color"),
    )
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in Path(server.log_file).read_text()
