# SPDX-License-Identifier: BSD-3-Clause
"""`docs/scenarios.md`: its blocks print what it says; its tables are the model."""

from typing import get_args

from document import Document
from stepwire.server.scenarios import Fault, Scenario

page = Document("docs/scenarios.md")


def test_the_first_table_is_the_model() -> None:
    schema = Scenario.model_json_schema()["properties"]
    documented = page.table("Scenarios")
    assert [name for name, _, _ in documented] == [f"`{name}`" for name in schema]
    for name, allowed, meaning in documented:
        field = schema[name.strip("`")]
        parts = (field, *field.get("anyOf", ()))
        low = next((part["minimum"] for part in parts if "minimum" in part), None)
        high = next((part["maximum"] for part in parts if "maximum" in part), None)
        if high is not None:
            assert allowed == f"{low:g} to {int(high)}"
        elif low is not None:
            assert allowed == f"at least {low}"
        assert meaning == field["description"]


def test_the_second_table_has_every_kind_of_fault() -> None:
    """What the client makes of each is tested in `runtime/tests/client/test_scenario_faults.py`."""
    kinds = {kind.strip("`") for kind, _, _ in page.table("Scenarios", 2)}
    assert kinds == set(get_args(Fault.model_fields["kind"].annotation))


test_blocks = page.test_the_other_blocks()
