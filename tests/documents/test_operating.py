# SPDX-License-Identifier: BSD-3-Clause
"""`docs/operating.md`: its settings are the server's, its files are used as printed or checked.

nginx, systemd and Kubernetes carry the marker `operating`; they need what Debian's packages bring.
"""

import json
import os
import re
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from urllib.parse import urljoin

import pytest
import requests
import yaml

from document import ROOT, Document
from echo_env import EchoAction, EchoEnv
from stepwire.client import ConnectFailedError
from stepwire.server import Settings
from stepwire.server.settings import PREFIX

page = Document("docs/operating.md")
_PATIENCE_S = 60.0
_SPACE = "As a Hugging Face Space"


@page.tests("Operating the server, 1")
def test_server_takes_port_and_reload(serve_block: Any, free_port: int) -> None:
    code = page.code("Operating the server, 1")
    assert "--port 8001 --reload" in code
    url = serve_block(code.replace("8001", str(free_port)), free_port)
    assert requests.get(f"{url}/health", timeout=60).json() == {"status": "healthy"}


@page.tests("Operating the server, 2")
def test_uvicorn_serves_the_application(serve_block: Any, free_port: int) -> None:
    code = page.code("Operating the server, 2").strip()
    url = serve_block(f"{code} --port {free_port}", free_port)  # 8000 may be taken
    assert requests.get(f"{url}/state", timeout=60).json()["step_count"] == 0


def test_the_settings_table_is_the_settings() -> None:
    documented = {}
    for variable, option, default, allowed, meaning in page.table("Settings"):
        documented[variable] = (option, default, allowed, meaning.split(";")[0])
    options = _options()
    expected = {
        f"`{name.upper()}`": (
            f"`--{name.replace('_', '-')}`" if name in options else "",
            _default(field.default),
            _allowed(field),
            str(field.description).split(";")[0],
        )
        for name, field in Settings.model_fields.items()
    }
    assert documented == expected


def _options() -> set[str]:
    command = [sys.executable, "-m", "echo_env.server.app", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {option.replace("-", "_") for option in re.findall(r"^ +--([\w-]+)", text, re.MULTILINE)}


def _default(value: Any) -> str:
    if value in (None, ()):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _allowed(field: Any) -> str:
    bounds = {
        key: getattr(bound, key)
        for bound in field.metadata
        for key in ("ge", "le", "min_length")
        if hasattr(bound, key)
    }
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(field.annotation))
    if "ge" in bounds:
        return f"{bounds['ge']} to {bounds['le']}"
    if bounds.get("min_length", 1) > 1:
        return f"at least {bounds['min_length']} characters"
    return ""


def test_the_image_sets_the_host_that_the_table_says() -> None:
    assert "the image sets `0.0.0.0`" in page.text
    assert "HOST=0.0.0.0" in (ROOT / "server" / "Dockerfile").read_text("utf-8")


def test_the_variables_it_names_are_settings() -> None:
    not_ours = {"SIGTERM", "SIGINT", "FORWARDED_ALLOW_IPS", "NAME", "DIRECTORY", "OPENENV_MODE"}
    not_ours |= {"VALIDATION_ERROR", "SESSION_ERROR", "CAPACITY_REACHED", "GET", "SIGHUP"}
    not_ours |= {"SUPPORTS_CONCURRENT_SESSIONS"}
    names = set(re.findall(r"\b([A-Z]+(?:_[A-Z]+)*)=", page.text))
    names |= set(re.findall(r"`([A-Z]+(?:_[A-Z]+)*)`", page.text))
    ours = {name.removeprefix(PREFIX).lower() for name in names - not_ours}
    assert ours <= set(Settings.model_fields)


@page.tests("In a container, 1")
def test_the_container_is_run_by_the_images_tests() -> None:
    """`test_image.py` runs it, with 200 sessions."""
    tests = (ROOT / "tests" / "test_image.py").read_text("utf-8")
    assert "In a container" in tests


@pytest.mark.operating
@page.tests("Behind nginx, 1", "Behind HAProxy, 2", "Behind Caddy, 1")
class TestBehindAProxy:
    @pytest.fixture(params=["nginx", "haproxy", "caddy"])
    def proxy(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def url(self, server: Any, behind_proxy: Callable[..., str], proxy: str) -> str:
        return behind_proxy(proxy, server)

    def test_the_client_works(self, url: str) -> None:
        with EchoEnv(url) as env:
            env.reset(seed=7, episode_id="proxied")
            result = env.step(EchoAction(message="Hi"))
            assert (result.reward, result.observation.metadata["step"]) == (0.2, 1)
            assert env.state().episode_id == "proxied"
            assert env.call_tool("echo_message", message="Ho") == "Ho"

    def test_the_name_it_has_outside_is_let_in_when_it_is_given(
        self,
        server: Any,
        start_server: Callable[..., Any],
        behind_proxy: Callable[..., str],
        proxy: str,
    ) -> None:
        outside = {"Host": "example.org", "Origin": "http://example.org"}
        for serving, status in (
            (start_server(env={"ALLOWED_HOSTS": "example.org"}), 200),
            (server, 403),
        ):
            url = behind_proxy(proxy, serving)
            reset = requests.post(f"{url}/reset", headers=outside, timeout=_PATIENCE_S)
            assert reset.status_code == status, reset.text

    def test_a_large_message_passes(self, url: str) -> None:
        message = "x" * (15 * 1024 * 1024)
        with EchoEnv(url, message_timeout_s=_PATIENCE_S) as env:
            assert env.step(EchoAction(message=message)).observation.message_length == len(message)

    def test_the_page_and_all_it_loads_are_there(self, url: str) -> None:
        page = requests.get(url, timeout=_PATIENCE_S)  # without a slash, as one would type it
        assert (page.url, page.status_code) == (f"{url}/web/", 200)
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

    def test_no_redirect_leaves_the_prefix(self, url: str) -> None:
        request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        answer = requests.post(f"{url}/mcp/", json=request, timeout=_PATIENCE_S)
        assert (answer.status_code, answer.history) == (200, [])
        for path in ("/", "/web", "/health/"):
            answer = requests.get(url + path, timeout=_PATIENCE_S)
            assert answer.ok
            assert all(each.url.startswith(f"{url}/") for each in [*answer.history, answer])
        assert requests.head(f"{url}/health", timeout=_PATIENCE_S).status_code == 200

    def test_no_client_gets_the_answer_to_another(
        self, server: Any, behind_proxy: Callable[..., str], proxy: str
    ) -> None:
        """Attackers send requests inside bodies; the proxy passes any `Upgrade` on."""
        naive = {
            "nginx": {
                "Upgrade $echo_env_upgrade": "Upgrade $http_upgrade",
                " $echo_env_connection;": " upgrade;",
            },
            "haproxy": {"    http-request del-header Upgrade": "    # "},
            "caddy": {},
        }
        for changes in ({}, naive[proxy]):
            url = behind_proxy(proxy, server, changes)
            with ThreadPoolExecutor() as pool:
                wrong = sum(pool.map(_wrong_answers, [url] * 2))
            assert wrong == 0

    def test_an_idle_connection_never_makes_a_502(
        self, start_server: Callable[..., Any], behind_proxy: Callable[..., str], proxy: str
    ) -> None:
        """The waits of the documented configuration, shorter, and in the same order."""
        if proxy == "haproxy":  # closes idle connections to a server after two rounds of purges
            idle, shorter = "pool-purge-delay 30s", "pool-purge-delay 500ms"
        else:
            idle, shorter = {
                "nginx": ("keepalive_timeout 60s", "keepalive_timeout 1s"),
                "caddy": ("keepalive 60s", "keepalive 1s"),
            }[proxy]
        server = start_server(env={"KEEP_ALIVE_TIMEOUT_S": "3"})
        url = behind_proxy(proxy, server, {idle: shorter})

        def ask(client: int) -> set[int]:
            statuses = set()
            with requests.Session() as session:
                for step in range(12):
                    step_s = 0.95 + 0.1 * (step % 2) + client * 0.01
                    time.sleep(step_s if client % 2 else step_s + 2)
                    body = {"action": {"message": "Hi"}}
                    answer = session.post(f"{url}/step", json=body, timeout=_PATIENCE_S)
                    statuses.add(answer.status_code)
            return statuses

        with ThreadPoolExecutor(16) as pool:
            assert set().union(*pool.map(ask, range(16))) == {200}

    def test_a_body_above_the_limit_is_refused(self, url: str) -> None:
        body = b"x" * (16 * 1024 * 1024 + 1)
        assert requests.post(f"{url}/step", data=body, timeout=_PATIENCE_S).status_code == 413

    def test_more_connections_than_the_limit_are_refused(
        self, server: Any, behind_nginx: Callable[[Any], str], connect: Callable[..., Any]
    ) -> None:
        url = behind_nginx(server)
        sessions = [connect(f"ws{url.removeprefix('http')}/ws") for _ in range(100)]
        with pytest.raises(ConnectFailedError, match="429"):
            EchoEnv(url).sync().reset()
        for session in sessions:
            assert session.step(message="Hi")["type"] == "observation"


def _attack(url: str, upgrade: str) -> None:
    """Send a request whose body is the beginning of another, which the next client's completes.

    The empty lines before it, which a parser skips, have the proxy send head and body apart.
    """
    host, _, path = url.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    inner = "\r\n" * 10_000 + "GET /sessions HTTP/1.1\r\nHost: localhost\r\nX: "
    lines = [
        *(f"POST /{path}/reset HTTP/1.1", f"Host: {host}", "Content-Type: application/json"),
        *("Connection: Upgrade", f"Upgrade: {upgrade}", f"Content-Length: {len(inner)}"),
    ]
    with socket.create_connection((name, int(port)), _PATIENCE_S) as client:
        client.sendall("\r\n".join([*lines, "", inner]).encode())
        client.recv(65536)


def _wrong_answers(url: str) -> int:
    """How many of 900 requests got the answer to another."""
    wrong = 0
    with requests.Session() as session:
        for number in range(900):
            if not number % 3:
                _attack(url, ("h2c", "TLS/1.0", "websocket")[number % 9 // 3])
            message = secrets.token_hex(8)
            body = {"action": {"message": message}}
            answer = session.post(f"{url}/step", json=body, timeout=_PATIENCE_S)
            observation = answer.json().get("observation", {}) if answer.ok else {}
            wrong += observation.get("echoed_message") != message
    return wrong


def test_proxies_close_idle_connections_before_the_server() -> None:
    waits = re.findall(r"(?:keepalive|keepalive_timeout|pool-purge-delay) (\d+)s", page.text)
    assert len(waits) == 3
    assert max(map(int, waits)) < Settings.model_fields["keep_alive_timeout_s"].default


@page.tests("Behind HAProxy, 1")
def test_the_command_prints_the_haproxy_block(run_shell: Callable[..., str]) -> None:
    assert run_shell(page.code("Behind HAProxy, 1")) == page.code("Behind HAProxy, 2")


@pytest.mark.operating
@page.tests("With systemd, 1")
class TestSystemdUnit:
    @pytest.fixture
    def unit(self) -> str:
        """The unit, with the command of this environment in place of that in `/opt`."""
        command = Path(sys.executable).with_name("server")
        return page.code("With systemd, 1").replace("/opt/echo-env/bin/server", str(command))

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
@page.tests("In Kubernetes, 1", "In Kubernetes, 2")
class TestKubernetes:
    @pytest.fixture
    def objects(self) -> dict[str, Any]:
        documents = yaml.safe_load_all(page.code("In Kubernetes, 2"))
        return {document["kind"]: document for document in documents}

    @pytest.fixture
    def container(self, objects: dict[str, Any]) -> Any:
        (container,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
        return container

    def test_it_follows_the_schema(self, objects: dict[str, Any]) -> None:
        import kubernetes_validate

        assert set(objects) == {
            *("Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"),
        }
        for document in objects.values():
            newest = kubernetes_validate.latest_version()
            kubernetes_validate.validate(document, newest, strict=True)

    def test_the_service_leads_to_the_pods(self, objects: dict[str, Any], container: Any) -> None:
        template = objects["Deployment"]["spec"]["template"]
        labels = template["metadata"]["labels"]
        assert objects["Deployment"]["spec"]["selector"]["matchLabels"] == labels
        assert objects["Service"]["spec"]["selector"] == labels
        assert "sessionAffinity" not in objects["Service"]["spec"]
        assert objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
        scaled = objects["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
        assert scaled == {
            "apiVersion": objects["Deployment"]["apiVersion"],
            "kind": "Deployment",
            "name": objects["Deployment"]["metadata"]["name"],
        }
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
        variables = {entry["name"]: entry.get("value", "x" * 64) for entry in container["env"]}
        fields = {name.lower(): value for name, value in variables.items()}
        assert set(fields) <= set(Settings.model_fields)
        Settings(**fields)  # type: ignore[arg-type]
        (secret,) = (entry["valueFrom"] for entry in container["env"] if "valueFrom" in entry)
        name, key = secret["secretKeyRef"]["name"], secret["secretKeyRef"]["key"]
        command = page.code("In Kubernetes, 1")
        assert f"secret generic {name} --from-literal={key}=" in command

    def test_a_pod_has_the_time_that_a_stop_takes(
        self, objects: dict[str, Any], container: Any
    ) -> None:
        waits = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
        drains = Settings.model_fields["shutdown_grace_s"].default
        grace = objects["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert waits + 2 * drains < grace

    def test_pods_are_added_before_all_places_are_taken(
        self, objects: dict[str, Any], container: Any
    ) -> None:
        (metric,) = objects["HorizontalPodAutoscaler"]["spec"]["metrics"]
        assert f"`{metric['pods']['metric']['name']}`" in (ROOT / "docs/observing.md").read_text()
        places = {entry["name"]: entry.get("value") for entry in container["env"]}
        full = int(places["MAX_CONCURRENT_ENVS"])
        assert full / 2 < int(metric["pods"]["target"]["averageValue"]) < full

    def test_its_user_is_the_images(self, objects: dict[str, Any], root: Path) -> None:
        security = objects["Deployment"]["spec"]["template"]["spec"]["securityContext"]
        user = f"\nUSER {security['runAsUser']}:{security['runAsGroup']}\n"
        assert user in (root / "server" / "Dockerfile").read_text("utf-8")


@pytest.mark.slow
@page.tests(*(f"{_SPACE}, {place}" for place in (1, 2, 3, 4)))
@pytest.mark.parametrize("place", [1, 2, 3, 4])
def test_push_to_a_stand_in_for_the_hub(
    place: int, push_to_stand_in: Callable[[str], Path]
) -> None:
    code = page.code(f"{_SPACE}, {place}")
    kept = push_to_stand_in(code)
    commands = [shlex.split(line) for line in code.splitlines()]
    assert len(list(kept.glob("*.json"))) == len(commands)
    for number, command in enumerate(commands):
        told = json.loads((kept / f"{number}.json").read_text("utf-8"))
        space = command[command.index("--repo-id") + 1] if "--repo-id" in command else "me/echo_env"
        assert (told["repo_id"], told["private"]) == (space, "--private" in command)
        variables = {"MAX_CONCURRENT_ENVS": "100"} if "--env-var" in command else {}
        assert told["variables"] == variables
        uploaded = kept / str(number)
        assert (uploaded / "server" / "app.py").exists()
        assert (uploaded / "runtime" / "stepwire" / "server" / "application.py").exists()
        assert (uploaded / "openenv.yaml").exists()
        dockerfile = (ROOT / "server" / "Dockerfile").read_text("utf-8")
        if "--base-image" in command:
            base = command[command.index("--base-image") + 1]
            dockerfile = dockerfile.replace("FROM ${BASE_IMAGE}", f"FROM {base}")
        assert (uploaded / "Dockerfile").read_text("utf-8") == dockerfile


@pytest.mark.slow
def test_documented_push_options_exist(run_shell: Callable[..., str]) -> None:
    listed = re.findall(r"^- (`.*)$", page.section(_SPACE), re.MULTILINE)
    options = set(re.findall(r"`(-[\w-]+|directory)`", " ".join(listed)))
    assert len(options) == 7
    assert "`uv run openenv push --help`" in page.text
    found = run_shell("uv run openenv push --help", COLUMNS="200", NO_COLOR="1", TERM="dumb")
    assert options | {"--env-var", "--secret"} <= set(re.findall(r"[\w-]+", found.lower()))


test_blocks = page.test_the_other_blocks()
