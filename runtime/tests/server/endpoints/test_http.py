# SPDX-License-Identifier: BSD-3-Clause
"""The HTTP routes, as the wire contract describes them."""

import json
from typing import Any
from uuid import UUID

import pytest
import requests

_READY = {"metadata": {}, "text": "Ready for notes", "length": 0}


@pytest.fixture
def post(server: Any) -> Any:
    """POSTs a value as JSON; text and bytes unchanged."""

    def post_one(path: str, body: Any = None, url: str = server.url) -> requests.Response:
        raw = body if isinstance(body, bytes | str | None) else json.dumps(body)
        headers = {"Content-Type": "application/json"}
        return requests.post(url + path, data=raw, headers=headers, timeout=60)

    return post_one


@pytest.fixture
def get(server: Any) -> Any:
    def get_one(path: str, url: str = server.url) -> requests.Response:
        return requests.get(url + path, timeout=60)

    return get_one


@pytest.mark.parametrize(
    "body",
    [None, "{}", {"seed": 0}, {"seed": None, "episode_id": "mine", "difficulty": {"a": [1]}}],
    ids=str,
)
def test_reset_answers_with_the_first_observation(post: Any, body: Any) -> None:
    response = post("/reset", body)
    assert response.headers["Content-Type"] == "application/json"
    assert (response.status_code, response.json()) == (
        200,
        {"observation": _READY, "reward": 0.0, "done": False, "metadata": None},
    )


@pytest.mark.parametrize(
    "more",
    [{}, {"timeout_s": 0.5}, {"request_id": "x" * 255, "render": True}],
    ids=["action", "timeout", "anything else"],
)
def test_step_answers_with_the_observation_and_its_metadata(post: Any, more: Any) -> None:
    response = post("/step", {"action": {"text": "Hi"}, **more})
    metadata = {"original_text": "Hi", "step": 1}
    assert (response.status_code, response.json()) == (
        200,
        {
            "observation": {"text": "Hi", "length": 2, "metadata": metadata},
            "reward": 0.2,
            "done": False,
            "metadata": metadata,
        },
    )


@pytest.mark.parametrize("message", ["", "😀", "nai\u0308ve", "\x00\u2028\n", "x" * 1_000_000])
def test_text_returns_unchanged(post: Any, message: str) -> None:
    observation = post("/step", {"action": {"text": message}}).json()["observation"]
    assert observation["text"] == message
    assert observation["length"] == len(message)


def test_each_request_has_a_fresh_environment(post: Any, get: Any) -> None:
    steps = [post("/step", {"action": {"text": "Hi"}}).json() for _ in range(3)]
    assert [step["metadata"]["step"] for step in steps] == [1, 1, 1]
    post("/reset", {"episode_id": "mine"})
    state = get("/state").json()
    assert set(state) == {"episode_id", "step_count", "characters"}
    assert UUID(state["episode_id"]).version == 4
    assert state["step_count"] == 0


@pytest.mark.parametrize(
    ("path", "body", "kind", "location", "reason"),
    [
        ("/step", {}, "missing", ["body", "action"], "required"),
        ("/step", {"action": {}}, "missing", ["text"], "required"),
        ("/step", {"action": 5}, "dict_type", ["body", "action"], "dictionary"),
        ("/step", {"action": {"text": 5}}, "string_type", ["text"], "string"),
        ("/step", {"action": {"text": "", "x": 1}}, "extra_forbidden", ["x"], "not permitted"),
        (
            "/step",
            {"action": {"text": "Hi"}, "timeout_s": 0},
            "greater_than",
            ["body", "timeout_s"],
            "greater than 0",
        ),
        (
            "/step",
            {"action": {"text": "Hi"}, "request_id": "x" * 256},
            "string_too_long",
            ["body", "request_id"],
            "255",
        ),
        ("/step", [], "model_type", ["body"], "dictionary"),
        ("/step", "", "json_invalid", ["body"], "Invalid JSON"),
        ("/step", '{"action":', "json_invalid", ["body"], "Invalid JSON"),
        ("/step", b"\xff\xfe\x00", "json_invalid", ["body"], "Invalid JSON"),
        (
            "/step",
            r'{"action":{"text":"\ud800"}}',
            "string_unicode",
            ["action", "text"],
            "lone surrogates",
        ),
        ("/step", '{"action":' * 5000, "json_depth", None, "100 levels"),
        ("/step", "[" * 5000 + "]" * 5000, "json_depth", None, "100 levels"),
        ("/reset", {"seed": -1}, "greater_than_equal", ["body", "seed"], "0"),
        ("/reset", {"seed": "seven"}, "int_parsing", ["body", "seed"], "integer"),
        ("/reset", {"episode_id": 5}, "string_type", ["body", "episode_id"], "string"),
        ("/reset", {"episode_id": "x" * 256}, "string_too_long", ["body", "episode_id"], "255"),
        ("/reset", "nope", "json_invalid", ["body"], "Invalid JSON"),
        ("/reset", "{".encode("utf-16"), "json_invalid", ["body"], "Invalid JSON"),
        ("/reset", "null", "model_type", ["body"], "dictionary"),
        ("/reset", r'{"\udfff":1}', "string_unicode", ["\\udfff"], "lone surrogates"),
        ("/reset", '{"seed":' + "9" * 5000 + "}", "int_parsing_size", ["seed"], "4300 digits"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_request_is_explained(
    post: Any, path: str, body: Any, kind: str, location: Any, reason: str
) -> None:
    response = post(path, body)
    (entry,) = response.json()["detail"]
    assert response.status_code == 422
    assert entry["type"] == kind
    assert location in (None, entry["loc"])
    assert reason in entry["msg"]
    assert len(response.text) < 1000


def test_only_the_first_20_errors_are_listed(post: Any) -> None:
    action = {"text": "Hi", **{f"key{number}": number for number in range(50)}}
    detail = post("/step", {"action": action}).json()["detail"]
    assert len(detail) == 21
    assert detail[20]["msg"] == "30 further errors are not listed"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nope", 404), ("GET", "/step", 405), ("POST", "/state", 405), ("GET", "/ws", 404)],
)
def test_other_routes_and_methods_do_not_exist(
    server: Any, method: str, path: str, status: int
) -> None:
    assert requests.request(method, server.url + path, timeout=60).status_code == status


def test_health_says_healthy(get: Any) -> None:
    assert get("/health").json() == {"status": "healthy"}


def test_metadata_describes_the_environment(get: Any, environments: Any) -> None:
    described = get("/metadata").json()
    assert described["name"] == "NotesEnvironment"
    assert {"name", "description", "version"} <= set(described)
    described = get("/metadata", environments.url + "/counting").json()
    assert (described["name"], described["version"]) == ("Counting", "3.2.1")


def test_schema_describes_action_observation_and_state(get: Any) -> None:
    schema = get("/schema").json()
    assert schema["action"]["required"] == ["text"]
    assert {"text", "length", "done", "reward", "metadata"} == set(
        schema["observation"]["properties"]
    )
    assert {"episode_id", "step_count"} <= set(schema["state"]["properties"])


def test_openapi_describes_the_contract(get: Any) -> None:
    openapi = get("/openapi.json").json()
    assert openapi["info"]["version"].startswith("1.")
    assert {"/reset", "/step", "/state", "/schema", "/metadata", "/health", "/mcp"} <= set(
        openapi["paths"]
    )
    for path, model in [("reset", "ResetRequest"), ("step", "StepRequest"), ("mcp", "JsonRpc")]:
        content = openapi["paths"][f"/{path}"]["post"]["requestBody"]["content"]
        reference = content["application/json"]["schema"]["$ref"]
        prefix, _, name = reference.rpartition("/")
        assert prefix == "#/components/schemas"
        assert name.startswith(model)
        assert name in openapi["components"]["schemas"]


def test_every_reference_in_openapi_resolves(get: Any) -> None:
    text = get("/openapi.json").text
    names = {part.split('"')[0] for part in text.split('"$ref":"#/components/schemas/')[1:]}
    assert names
    assert names <= set(json.loads(text)["components"]["schemas"])


def test_the_step_request_in_openapi_is_of_this_environments_action(get: Any) -> None:
    schemas = get("/openapi.json").json()["components"]["schemas"]
    assert schemas["NoteAction"]["properties"]["text"]["type"] == "string"
    assert "NoteAction" in json.dumps(schemas["StepRequest"]["properties"]["action"])
    assert "examples" not in schemas["StepRequest"]


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/failing/step", {"action": {"text": "ValueError"}}, 500, "Messages end with a full"),
        ("/failing/step", {"action": {"text": "KeyError"}}, 500, "failed unexpectedly"),
        ("/failing/reset", {"level": 9}, 500, "There is no level 9"),
        ("/unbuildable/reset", None, 500, "Environment factory 'Unbuildable' failed"),
    ],
)
def test_an_environment_that_fails_is_a_server_error(
    environments: Any, post: Any, path: str, body: Any, status: int, said: str
) -> None:
    response = post(path, body, environments.url)
    assert response.status_code == status
    assert said in response.json()["detail"]
    expected = "FACTORY_ERROR" if "unbuildable" in path else "EXECUTION_ERROR"
    assert response.json()["code"] == expected
    assert "secret" not in response.text


def test_a_reward_that_json_cannot_express_is_null(environments: Any, post: Any) -> None:
    response = post("/failing/step", {"action": {"text": "not a number"}}, environments.url)
    assert response.json()["reward"] is None


def test_arguments_that_the_environment_does_not_accept_are_left_out(
    environments: Any, post: Any
) -> None:
    body = {"action": {"text": "Hi"}, "timeout_s": 2.5, "request_id": "r", "render": True}
    step = post("/counting/step", body, environments.url).json()
    assert step["observation"]["text"] == "timeout 2.5"
    reset = post("/counting/reset", {"seed": 3, "episode_id": "e", "x": 1}, environments.url).json()
    assert reset["observation"]["text"] == "seed 3"


def test_tool_style_actions_are_answered_with_the_frameworks_observations(post: Any) -> None:
    listed = post("/step", {"action": {"type": "list_tools"}}).json()
    names = [tool["name"] for tool in listed["observation"]["tools"]]
    assert names == ["read_note", "measure_note"]
    call = {"type": "call_tool", "tool_name": "read_note", "arguments": {"text": "Hi"}}
    called = post("/step", {"action": call}).json()
    assert called["observation"]["result"]["data"] == "Hi"
    assert called["observation"]["error"] is None


def test_requests_are_not_counted_as_sessions(
    environments: Any, post: Any, connect_to: Any
) -> None:
    connect_to("counting").step(text="Hi")  # the only session it has
    assert post("/counting/reset", None, environments.url).status_code == 200
