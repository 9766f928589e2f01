# SPDX-License-Identifier: BSD-3-Clause
"""`docs/ray.md`. Its commands and its table are compared with the code, which needs Ray."""

import shlex
from typing import Any

import pytest

from document import Document

page = Document("docs/ray.md")


def _with_ray(test: Any) -> Any:
    """Ray itself warns."""
    return pytest.mark.ray(pytest.mark.filterwarnings("ignore")(test))


@_with_ray
@page.tests("Deploying, 1")
def test_the_command_has_arguments_of_the_application() -> None:
    from ray import serve

    from stepwire.integrations.ray_serve import Options, app

    *command, application, replicas, places = shlex.split(
        page.code("Deploying, 1").replace("\\\n", "")
    )
    assert command == ["serve", "run", "--non-blocking", f"{app.__module__}:{app.__name__}"]
    arguments = dict(each.split("=") for each in (application, replicas, places))
    assert isinstance(app(Options.model_validate(arguments)), serve.Application)


@_with_ray
def test_its_table_is_the_arguments() -> None:
    from stepwire.integrations.ray_serve import Options

    assert page.table("Deploying") == [
        [f"`{name}`", "" if field.is_required() else f"`{field.default}`", field.description]
        for name, field in Options.model_fields.items()
    ]


test_blocks = page.test_the_other_blocks()
