# SPDX-License-Identifier: BSD-3-Clause
"""`openenv.yaml`: what it declares is true of the server, as `openenv validate` of 0.10 means it.

Its graders of an episode run here without a container. For most declarations 0.10 has only names of
checks (`semantic.oracle_max`, `runtime.tool_declaration_accuracy`): these are checked here alone.
`test_image.py` runs the oracle with the declared memory and without a network.
"""

import importlib.util
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from echo_env.server.echo_env_environment import EchoEnvironment


@pytest.fixture(scope="module")
def declared(root: Path) -> Any:
    return yaml.safe_load((root / "openenv.yaml").read_text("utf-8"))["validation"]


@pytest.fixture(scope="module")
def capabilities(declared: Any) -> Any:
    return declared["capabilities"]


def _post(server: Any, route: str, body: Any) -> Any:
    return requests.post(f"{server.url}/{route}", json=body, timeout=60).json()


def test_the_oracle_earns_the_largest_reward(
    root: Path, declared: Any, server: Any, run: Any
) -> None:
    floor, largest = declared["reward"]["range"]
    oracle = declared["capabilities"]["oracle"]
    assert oracle["form"] == "script"
    done = run(root / oracle["location"], env={"HOST": "127.0.0.1", "PORT": str(server.port)})
    assert done.returncode == 0, done.stderr
    assert largest - float(done.stdout) <= declared["reward"]["oracle_tolerance"]
    assert float(done.stdout) <= largest
    reset = _post(server, "reset", {})
    assert reset["reward"] == floor
    assert largest - floor >= declared["reward"]["floor_margin"]


def test_the_canaries_stay_at_the_floor(root: Path, capabilities: Any, conversation: Any) -> None:
    plan = json.loads((root / capabilities["canaries"]).read_text("utf-8"))
    floor = conversation.ask({"type": "reset", "data": plan["reset"]})["data"]["reward"]
    for action in plan["actions"]:
        answer = conversation.ask({"type": "step", "data": action})
        assert answer["data"]["reward"] == floor


def test_the_tools_are_those_that_are_offered(capabilities: Any, server: Any) -> None:
    listed = _post(server, "mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    names = [tool["name"] for tool in listed["result"]["tools"]]
    assert names == capabilities["declared_tools"]


def test_the_tasks_are_those_that_are_offered(capabilities: Any, server: Any) -> None:
    assert capabilities["task_api"] is True
    splits = requests.get(f"{server.url}/echo_env/splits", timeout=60).json()
    counts = {
        split["name"]: _post(server, "echo_env/num_tasks", {"split": split["name"]})["num_tasks"]
        for split in splits
    }
    assert counts == capabilities["declared_task_count"]


def test_what_is_declared_absent_is_absent(capabilities: Any) -> None:
    assert "injected_state" not in inspect.signature(EchoEnvironment.reset).parameters
    assert capabilities["set_state"] is False
    assert getattr(EchoEnvironment(), "rubric", None) is None
    assert capabilities["rubric_tree"] is capabilities["llm_judged"] is False


if importlib.util.find_spec("openenv.validation"):
    from openenv.validation.graders import Subject
    from openenv.validation.graders.runtime import (
        ObservationSchemaGrader,
        RewardWellFormedGrader,
        StateContractGrader,
    )
    from openenv.validation.parsers.openenv_yaml import OpenEnvYamlParser
    from openenv.validation.runtime.collector import collect_runtime_evidence
    from openenv.validation.runtime.contracts import RuntimePlan

    @pytest.mark.filterwarnings("default::DeprecationWarning")  # in their own code
    @pytest.mark.parametrize("plan", ["runtime", "canary"])
    def test_the_graders_of_0_10_pass_an_episode(root: Path, server: Any, plan: str) -> None:
        text = (root / "validation" / f"{plan}.json").read_text("utf-8")
        evidence = collect_runtime_evidence(
            server.url, RuntimePlan.model_validate_json(text), episode_timeout_s=60
        )
        assert evidence.failure_reason is None
        subject = Subject(
            root=root,
            manifest=OpenEnvYamlParser().parse(root),
            image_ref=None,
            running=None,
            outputs_dir=root,
            runtime_evidence=evidence,
        )
        for grader in (RewardWellFormedGrader(), ObservationSchemaGrader(), StateContractGrader()):
            result = grader.run(subject)
            assert result.status.value == "pass", result.evidence
