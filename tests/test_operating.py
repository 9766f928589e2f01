# SPDX-License-Identifier: BSD-3-Clause
"""`docs/operating.md`: each of its blocks is used as it stands, or checked by whom it is for.

Most of it needs Debian's nginx and systemd and carries the marker `operating`; `tests/engine.sh`
brings what the block with `docker run` needs. That one is run in `test_image.py`.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
import requests
import yaml

from echo_env import EchoAction, EchoEnv
from stepwire.client.errors import ConnectFailedError
from stepwire.server.settings import Settings

_PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def blocks(root: Path) -> dict[str, str]:
    """The code blocks of the page, by their language; each has one of its own, but for `bash`."""
    text = (root / "docs" / "operating.md").read_text()
    found = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return {f"{language} {block.split()[0]}": block for language, block in found}


def test_every_block_is_known(blocks: dict[str, str]) -> None:
    assert list(blocks) == [
        "bash docker",
        "nginx map",
        "ini [Unit]",
        "yaml apiVersion:",
        "bash openenv",
    ]


def test_the_settings_it_names_exist(root: Path) -> None:
    text = (root / "docs" / "operating.md").read_text()
    not_ours = {"SIGTERM", "FORWARDED_ALLOW_IPS", "NAME"}  # the second is uvicorn's
    names = set(re.findall(r"\b([A-Z]+(?:_[A-Z]+)*)=", text))
    names |= set(re.findall(r"`([A-Z]+(?:_[A-Z]+)*)`", text))
    assert {name.lower() for name in names - not_ours} <= set(Settings.model_fields)


@pytest.mark.operating
class TestBehindNginx:
    @pytest.fixture
    def url(self, server: Any, behind_nginx: Callable[[Any], str]) -> str:
        return behind_nginx(server)

    def test_the_client_works(self, url: str) -> None:
        with EchoEnv(url) as env:
            env.reset(seed=7, episode_id="proxied")
            result = env.step(EchoAction(message="Hi"))
            assert (result.reward, result.observation.metadata["step"]) == (0.2, 1)
            assert env.state().episode_id == "proxied"
            assert env.call_tool("echo_message", message="Ho") == "Ho"

    def test_the_name_it_has_outside_is_let_in_when_it_is_given(
        self, server: Any, start_server: Callable[..., Any], behind_nginx: Callable[[Any], str]
    ) -> None:
        outside = {"Host": "example.org", "Origin": "http://example.org"}
        for serving, status in (
            (start_server(env={"ALLOWED_HOSTS": "example.org"}), 200),
            (server, 403),
        ):
            url = behind_nginx(serving)
            reset = requests.post(f"{url}/reset", headers=outside, timeout=_PATIENCE_S)
            assert reset.status_code == status, reset.text

    def test_a_large_message_passes(self, url: str) -> None:
        message = "x" * (15 * 1024 * 1024)
        with EchoEnv(url, message_timeout_s=_PATIENCE_S) as env:
            assert env.step(EchoAction(message=message)).observation.message_length == len(message)

    def test_the_page_and_all_it_loads_are_there(self, url: str) -> None:
        page = requests.get(url, timeout=_PATIENCE_S)  # without a slash, as one would type it
        assert (page.url, page.status_code) == (f"{url}/web", 200)
        for address in re.findall(r"(?:src|href)=\"([^\"#]+)", page.text):
            if not address.startswith(("data:", "https://")):
                loaded = requests.get(urljoin(page.url, address), timeout=_PATIENCE_S)
                assert loaded.ok, address
                assert loaded.url.startswith(f"{url}/"), address

    def test_the_pages_own_origin_is_let_in(self, url: str, connect: Callable[..., Any]) -> None:
        address = f"ws{url.removeprefix('http')}/ws"
        observed = connect(address, origin=url.removesuffix("/echo")).step(message="Hi")
        assert observed["data"]["observation"]["message_length"] == 2

    def test_a_cookies_episode_goes_on_and_stays_below_the_prefix(self, url: str) -> None:
        with requests.Session() as browser:
            for step in (1, 2):
                answer = browser.post(
                    f"{url}/step", json={"action": {"message": "Hi"}}, timeout=_PATIENCE_S
                )
                assert answer.json()["metadata"]["step"] == step
            assert {cookie.path for cookie in browser.cookies} == {"/echo/"}

    def test_a_body_above_the_limit_is_refused(self, url: str) -> None:
        body = b"x" * (16 * 1024 * 1024 + 1)
        assert requests.post(f"{url}/step", data=body, timeout=_PATIENCE_S).status_code == 413

    def test_more_connections_than_the_limit_are_refused(
        self, url: str, connect: Callable[..., Any]
    ) -> None:
        sessions = [connect(f"ws{url.removeprefix('http')}/ws") for _ in range(100)]
        with pytest.raises(ConnectFailedError, match="429"):
            EchoEnv(url).sync().reset()
        for session in sessions:
            assert session.step(message="Hi")["type"] == "observation"


@pytest.mark.operating
class TestSystemdUnit:
    @pytest.fixture
    def unit(self, blocks: dict[str, str]) -> str:
        """The unit, with the command of this environment in place of that in `/opt`."""
        command = Path(sys.executable).with_name("server")
        return blocks["ini [Unit]"].replace("/opt/echo-env/bin/server", str(command))

    @pytest.fixture
    def unit_file(self, unit: str, tmp_path: Path) -> Path:
        file = tmp_path / "echo-env.service"
        file.write_text(unit)
        return file

    def _settings(self, unit: str, name: str) -> list[str]:
        return re.findall(rf"^{name}=(.*)$", unit, re.MULTILINE)

    def test_systemd_finds_nothing_wrong_with_it(self, unit_file: Path) -> None:
        command = ["systemd-analyze", "verify", "--man=no", unit_file]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")

    def test_systemd_rates_its_exposure_as_low(self, unit_file: Path) -> None:
        command = ["systemd-analyze", "security", "--offline=yes", "--threshold=25", unit_file]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def test_its_command_serves_and_ends_on_sigterm(
        self, unit: str, start_server: Callable[..., Any]
    ) -> None:
        (command,) = self._settings(unit, "ExecStart")
        (variables,) = self._settings(unit, "Environment")
        env = dict(variable.split("=") for variable in shlex.split(variables))
        server = start_server(command=[*shlex.split(command), "--port", "{port}"], env=env)
        server.process.terminate()
        # What systemd takes for a clean exit.
        assert server.process.wait(_PATIENCE_S) in (0, -signal.SIGTERM)

    def test_a_bad_setting_is_not_tried_again(self, unit: str) -> None:
        (command,) = self._settings(unit, "ExecStart")
        done = subprocess.run(
            shlex.split(command),
            env=os.environ | {"PORT": "none"},
            capture_output=True,
            timeout=_PATIENCE_S,
            check=False,
        )
        assert self._settings(unit, "RestartPreventExitStatus") == [str(done.returncode)]


@pytest.mark.operating
class TestKubernetes:
    @pytest.fixture
    def objects(self, blocks: dict[str, str]) -> dict[str, Any]:
        documents = yaml.safe_load_all(blocks["yaml apiVersion:"])
        return {document["kind"]: document for document in documents}

    @pytest.fixture
    def container(self, objects: dict[str, Any]) -> Any:
        (container,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
        return container

    def test_it_follows_the_schema(self, objects: dict[str, Any]) -> None:
        import kubernetes_validate

        assert set(objects) == {"Deployment", "Service"}
        for document in objects.values():
            newest = kubernetes_validate.latest_version()
            kubernetes_validate.validate(document, newest, strict=True)

    def test_the_service_leads_to_the_pods(self, objects: dict[str, Any], container: Any) -> None:
        template = objects["Deployment"]["spec"]["template"]
        labels = template["metadata"]["labels"]
        assert objects["Deployment"]["spec"]["selector"]["matchLabels"] == labels
        assert objects["Service"]["spec"]["selector"] == labels
        (port,) = container["ports"]
        assert [entry["targetPort"] for entry in objects["Service"]["spec"]["ports"]] == [
            port["name"]
        ]
        assert port["containerPort"] == Settings.model_fields["port"].default

    def test_its_probes_ask_for_what_is_served(self, container: Any, server: Any) -> None:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container[probe]["httpGet"]
            assert asked["port"] == container["ports"][0]["name"]
            assert requests.get(server.url + asked["path"], timeout=_PATIENCE_S).ok

    def test_its_variables_are_settings(self, container: Any) -> None:
        variables = {entry["name"]: entry["value"] for entry in container["env"]}
        fields = {name.lower(): value for name, value in variables.items()}
        assert set(fields) <= set(Settings.model_fields)
        Settings(**fields)  # type: ignore[arg-type]

    def test_its_user_is_the_images(self, objects: dict[str, Any], root: Path) -> None:
        security = objects["Deployment"]["spec"]["template"]["spec"]["securityContext"]
        assert f"\nUSER {security['runAsUser']}\n" in (root / "server" / "Dockerfile").read_text()


def test_variables_of_a_space_are_told_to_a_stand_in_for_the_hub(
    blocks: dict[str, str], root: Path, tmp_path: Path
) -> None:
    program, *arguments = shlex.split(blocks["bash openenv"])
    assert program == "openenv"
    subprocess.run(
        [sys.executable, root / "tests" / "stand_in_hub.py", *arguments],
        cwd=root,
        env=os.environ | {"UPLOADS": str(tmp_path)},
        capture_output=True,
        timeout=_PATIENCE_S,
        check=True,
    )
    told = json.loads((tmp_path / "0.json").read_text())
    assert (told["repo_id"], told["variables"]) == ("my-org/echo", {"MAX_CONCURRENT_ENVS": "100"})
