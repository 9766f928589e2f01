# SPDX-License-Identifier: BSD-3-Clause
"""HTTP clients that keep cookies keep their episode; others have a fresh environment each time."""

import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme
from itsdangerous import TimestampSigner, URLSafeTimedSerializer
from pydantic import SecretStr

from notes_env.environment import NotesEnvironment
from stepwire.server.endpoints.http_episodes import (
    COOKIE_NAME,
    LONGEST_COOKIE,
    HttpEpisodes,
    ResumableEnvironment,
)

_KEY = "a key that all of these tests' servers have"
_SERVED_ENVIRONMENTS = Path(__file__).parent.parent / "served_environments.py"


class Jar(requests.Session):
    """A client with cookies that opens a new connection for each request, to any worker."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.headers["Connection"] = "close"

    def reset(self, **arguments: Any) -> requests.Response:
        return self.post(self.url + "/reset", json=arguments, timeout=60)

    def step(self, text: str) -> requests.Response:
        return self.post(self.url + "/step", json={"action": {"text": text}}, timeout=60)

    def state(self) -> requests.Response:
        return self.get(self.url + "/state", timeout=60)

    @property
    def cookie(self) -> str:
        (value,) = [cookie.value for cookie in self.cookies if cookie.name == COOKIE_NAME]
        assert value is not None
        return value

    @cookie.setter
    def cookie(self, value: str) -> None:
        (kept,) = [cookie for cookie in self.cookies if cookie.name == COOKIE_NAME]
        kept.value = value


@pytest.fixture
def jar(server: Any) -> Jar:
    return Jar(server.url)


@pytest.fixture(scope="module")
def two_workers(start_shared_server: Callable[..., Any]) -> Any:
    return start_shared_server("--workers", "2", env={"SECRET_KEY": _KEY})


@pytest.fixture(scope="module")
def keyed(start_shared_server: Callable[..., Any]) -> Any:
    """Serves `served_environments.py` with a known key."""
    return start_shared_server(application=_SERVED_ENVIRONMENTS, env={"SECRET_KEY": _KEY})


def _episode(jar: Jar, seed: int, steps: int) -> list[Any]:
    jar.reset(seed=seed, episode_id=f"episode {seed}")
    answers = [jar.step(f"{seed}, {step}").json() for step in range(1, steps + 1)]
    assert all(answer["metadata"]["original_text"].startswith(f"{seed},") for answer in answers)
    return [answer["metadata"]["step"] for answer in answers] + [jar.state().json()]


def _after(seed: int, steps: int) -> list[Any]:
    characters = sum(len(f"{seed}, {step}") for step in range(1, steps + 1))
    state = {"episode_id": f"episode {seed}", "step_count": steps, "seed": seed}
    return [*range(1, steps + 1), {**state, "characters": characters}]


def test_a_client_with_cookies_keeps_its_episode_over_two_workers(two_workers: Any) -> None:
    assert _episode(Jar(two_workers.url), 7, 20) == _after(7, 20)


def test_sessions_never_mix(two_workers: Any) -> None:
    with ThreadPoolExecutor(8) as threads:
        episodes = list(
            threads.map(lambda seed: _episode(Jar(two_workers.url), seed, 10), range(16))
        )
    assert episodes == [_after(seed, 10) for seed in range(16)]


def test_workers_of_one_start_share_a_random_key(start_server: Any) -> None:
    options = ("--workers", "2", "--timeout-worker-healthcheck", "120")
    server = start_server(*options, application=_SERVED_ENVIRONMENTS)
    jar, steps, workers = Jar(server.url + "/remembering"), 0, set()
    while len(workers) < 2:
        observation = jar.step("").json()["observation"]
        steps += 1
        assert observation["length"] == steps <= 1000
        workers.add(observation["text"])


def test_an_episode_survives_a_restart_with_the_same_key(start_server: Any) -> None:
    first = start_server(env={"SECRET_KEY": _KEY})
    jar = Jar(first.url)
    jar.reset(episode_id="lasting")
    assert jar.step("Hi").json()["metadata"]["step"] == 1
    first.process.terminate()
    first.process.wait(60)
    second = start_server(env={"SECRET_KEY": _KEY}, port=first.port)
    assert jar.step("Hi").json()["metadata"]["step"] == 2
    assert jar.state().json() == {"episode_id": "lasting", "step_count": 2, "characters": 4}
    assert "SECRET_KEY" not in first.log + second.log


def test_without_a_key_an_episode_ends_with_the_server_and_the_log_says_so(
    server: Any, start_server: Any
) -> None:
    installed = Path(sys.executable).with_name("server")
    other = start_server(command=[str(installed), "--port", "{port}"])
    jar = Jar(other.url)
    jar.reset()
    jar.url = server.url  # another start
    assert jar.step("Hi").status_code == 422
    said = "INFO:     SECRET_KEY is not set: episodes over HTTP end when this server stops\n"
    assert (server.log.count(said), other.log.count(said)) == (1, 1)


def test_a_step_without_a_reset_starts_an_episode(jar: Jar) -> None:
    steps = [jar.step("Hi").json()["metadata"]["step"] for _ in range(3)]
    assert steps == [1, 2, 3]
    assert jar.state().json()["step_count"] == 3
    jar.reset()
    assert jar.state().json()["step_count"] == 0


def test_tools_leave_the_episode_as_it_is(jar: Jar) -> None:
    jar.step("Hi")
    action = {"action": {"type": "list_tools"}}
    assert jar.post(jar.url + "/step", json=action, timeout=60).json()["observation"]["tools"]
    assert jar.step("Hi").json()["metadata"]["step"] == 2


def test_a_request_that_fails_leaves_the_episode_as_it_is(environments: Any) -> None:
    jar = Jar(environments.url + "/failing")
    jar.step("Hi")
    for response in (
        jar.step("ValueError"),
        jar.step("KeyError"),
        jar.post(jar.url + "/step", json={"action": {"text": 5}}, timeout=60),
        jar.reset(seed=-1),
    ):
        assert response.status_code in (422, 500)
        assert "Set-Cookie" not in response.headers
    assert jar.step("Hi").json()["metadata"]["step"] == 2


def test_sending_an_earlier_cookie_replays_its_state(jar: Jar) -> None:
    jar.step("one")
    earlier = jar.cookie
    jar.step("two")
    jar.cookie = earlier
    assert jar.step("two again").json()["metadata"]["step"] == 2


class Elsewhere:
    """Another environment whose class has the same name."""

    class NotesEnvironment(NotesEnvironment):
        pass

    NotesEnvironment.__qualname__ = "NotesEnvironment"


def _sign(
    state: Any,
    key: str = _KEY,
    environment_cls: Any = NotesEnvironment,
    env_name: str = "notes_env",
    age: float = 0,
) -> str:
    """A cookie as the server with this key would make it."""

    class Earlier(TimestampSigner):
        def get_timestamp(self) -> int:
            return int(time.time() - age)

    ours = HttpEpisodes(SecretStr(key), env_name).serializer(environment_cls)
    made = URLSafeTimedSerializer(key, ours.salt, signer=Earlier, signer_kwargs=ours.signer_kwargs)
    return made.dumps(state)


_STATE = {"episode_id": "forged", "step_count": 41, "characters": 7}
_DAY_S = 24 * 3600


@pytest.mark.parametrize("age", [29 * _DAY_S, -1, -50])
def test_a_cookie_signed_with_the_key_is_accepted(two_workers: Any, age: float) -> None:
    """One of the near future comes from a replica whose clock is ahead."""
    jar = Jar(two_workers.url)
    jar.reset()
    jar.cookie = _sign(_STATE, age=age)
    assert jar.state().json() == _STATE


@pytest.mark.parametrize(
    "forge",
    [
        lambda _: _sign(_STATE, key="another key"),
        lambda _: _sign(_STATE, environment_cls=Elsewhere.NotesEnvironment),
        lambda _: _sign(_STATE, env_name="Another name"),
        lambda _: _sign(_STATE, age=31 * _DAY_S),
        lambda _: _sign(_STATE, age=-120),
        lambda cookie: (
            _sign(_STATE, key="another key").split(".")[0] + "." + cookie.partition(".")[2]
        ),
        lambda cookie: cookie[:-1],
        lambda cookie: cookie.rpartition(".")[0],
        lambda cookie: cookie.swapcase(),
        lambda cookie: "." + cookie,
        lambda _: "",
        lambda _: "x" * 8000,
        lambda _: "eyJlcGlzb2RlX2lkIjoiZm9yZ2VkIn0",
        lambda _: "\N{LATIN SMALL LETTER E WITH ACUTE}.x.y",
    ],
    ids=[
        "another key",
        "another environment's",
        "served under another name",
        "too old",
        "of the future",
        "another state",
        "cut short",
        "without signature",
        "letters changed",
        "said to be compressed",
        "empty",
        "long",
        "no signature at all",
        "no ASCII",
    ],
)
def test_a_forged_or_damaged_cookie_is_refused(
    two_workers: Any, forge: Callable[[str], str]
) -> None:
    jar = Jar(two_workers.url)
    jar.reset(episode_id="real")
    jar.cookie = forge(jar.cookie)
    for response in (jar.step("Hi"), jar.state()):
        (entry,) = response.json()["detail"]
        assert response.status_code == 422
        assert (entry["type"], entry["loc"]) == ("episode_cookie", ["cookie", COOKIE_NAME])
        assert "POST /reset starts a new one" in entry["msg"]
        assert len(entry["input"]) <= 21
        assert "Set-Cookie" not in response.headers
    assert jar.reset().status_code == 200  # and the cookie is a new one
    assert jar.step("Hi").json()["metadata"]["step"] == 1


def test_a_state_that_the_environment_refuses_is_an_execution_error(keyed: Any) -> None:
    jar = Jar(keyed.url + "/remembering")
    jar.step("of a former version")
    refused = jar.step("Hi")
    assert (refused.status_code, refused.json()["code"]) == (500, "EXECUTION_ERROR")
    assert refused.json()["detail"] == "That was before the notes were numbered"


def test_another_servers_cookie_on_the_same_host_does_not_hide_ours(keyed: Any, jar: Jar) -> None:
    """A browser sends the cookies of `/` and of `/remembering`, in either order."""
    jar.step("Hi")
    here = Jar(keyed.url + "/remembering")
    here.step("Hi")
    for cookies in ([jar.cookie, here.cookie], [here.cookie, jar.cookie]):
        header = "; ".join(["theme=dark", *(f"{COOKIE_NAME}={cookie}" for cookie in cookies)])
        answer = requests.post(
            f"{here.url}/step",
            json={"action": {"text": "Hi"}},
            headers={"Cookie": header},
            timeout=60,
        )
        assert answer.json()["observation"]["length"] == 2


def test_only_some_of_many_cookies_are_tried(jar: Jar) -> None:
    jar.step("Hi")
    for others, status in ((7, 200), (8, 422)):
        names = [f"{COOKIE_NAME}=x.y.z"] * others + [f"{COOKIE_NAME}={jar.cookie}"]
        headers = {"Cookie": "; ".join(names)}
        assert requests.get(f"{jar.url}/state", headers=headers, timeout=60).status_code == status


def test_state_is_compressed_and_refused_when_too_large_for_a_cookie(keyed: Any) -> None:
    jar = Jar(keyed.url + "/remembering")
    assert jar.step("x" * 100_000).status_code == 200
    assert len(jar.cookie) < 400
    earlier = jar.cookie
    incompressible = "".join(chr(0x4E00 + (number * 7919) % 20_000) for number in range(2_000))
    refused = jar.step(incompressible)
    (entry,) = refused.json()["detail"]
    assert refused.status_code == 422
    assert (entry["type"], entry["loc"]) == ("episode_too_large", ["cookie", COOKIE_NAME])
    assert entry["input"] > LONGEST_COOKIE == 3800
    assert f"takes {entry['input']} bytes as a cookie; the limit is 3800" in entry["msg"]
    assert "Set-Cookie" not in refused.headers
    assert jar.cookie == earlier
    assert jar.step("").json()["observation"]["length"] == 2


def test_the_largest_possible_cookie_is_accepted(keyed: Any) -> None:
    jar = Jar(keyed.url + "/remembering")
    while (answer := jar.step("\N{SNOWMAN}" + str(hash(time.time())))).status_code == 200:
        steps = answer.json()["observation"]["length"]
        largest = len(jar.cookie)
    assert LONGEST_COOKIE - 100 < largest <= LONGEST_COOKIE
    # Not a further step: its cookie may be some bytes longer, and too long.
    assert jar.state().json()["step_count"] == steps


def _attributes(response: requests.Response) -> set[str]:
    name_and_value, *attributes = response.headers["Set-Cookie"].split("; ")
    assert re.fullmatch(COOKIE_NAME + r"=[\w.-]+", name_and_value, re.ASCII)
    return set(attributes)


def test_over_http_the_cookie_is_for_the_same_site(jar: Jar) -> None:
    expected = {"Path=/", "HttpOnly", "SameSite=Lax"}
    assert _attributes(jar.reset()) == expected
    assert _attributes(jar.step("Hi")) == expected


_IN_AN_IFRAME = {"Path=/", "HttpOnly", "SameSite=None", "Secure", "Partitioned"}


def test_over_https_the_cookie_is_for_iframes_of_other_sites(
    tls_url: str, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "trusted.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "trusted.pem"))
    jar = Jar(tls_url)
    assert _attributes(jar.reset()) == _IN_AN_IFRAME
    assert [jar.step("Hi").json()["metadata"]["step"] for _ in range(2)] == [1, 2]


@pytest.mark.parametrize("forwarded", ["https", "HTTPS, http"])
def test_a_proxys_https_counts_as_https(jar: Jar, forwarded: str) -> None:
    jar.headers["X-Forwarded-Proto"] = forwarded
    assert _attributes(jar.reset()) == _IN_AN_IFRAME


def test_below_a_prefix_the_cookie_is_for_that_prefix(environments: Any, start_server: Any) -> None:
    assert "Path=/failing" in _attributes(Jar(environments.url + "/failing").reset())
    server = start_server("--root-path", "/my echo", application="notes_env.app:app")
    assert "Path=/my%20echo" in _attributes(Jar(server.url).reset())


def test_without_cookies_each_request_has_a_fresh_environment(server: Any) -> None:
    # As on the stock servers, except that answers offer a cookie.
    for _ in range(3):
        answer = Jar(server.url).step("Hi")
        assert answer.json()["metadata"]["step"] == 1
    assert Jar(server.url).state().json()["step_count"] == 0


@pytest.mark.parametrize("path", ["/state", "/metadata", "/schema", "/health", "/openapi.json"])
def test_requests_that_change_nothing_set_no_cookie(server: Any, path: str) -> None:
    assert "Set-Cookie" not in requests.get(server.url + path, timeout=60).headers


def test_an_environment_that_cannot_be_resumed_has_no_cookie(environments: Any, jar: Jar) -> None:
    jar.reset()
    here = Jar(environments.url + "/counting")
    here.cookies.update(jar.cookies)
    answer = here.step("Hi")
    assert (answer.status_code, "Set-Cookie" in answer.headers) == (200, False)


_WITHOUT_ITSDANGEROUS = """
import sys

sys.modules["itsdangerous"] = None  # as if it were not installed
sys.argv = ["server", "--port", "{port}"]
from notes_env.app import main

main()
"""


def test_without_itsdangerous_requests_share_no_episode(start_server: Any) -> None:
    server = start_server(command=[sys.executable, "-c", _WITHOUT_ITSDANGEROUS])
    jar = Jar(server.url)
    jar.reset()
    assert [jar.step("Hi").json()["metadata"]["step"] for _ in range(2)] == [1, 1]
    assert "itsdangerous is not installed: HTTP requests share no episode" in server.log


def test_the_environment_can_be_resumed() -> None:
    first, second = NotesEnvironment(), NotesEnvironment()
    assert isinstance(first, ResumableEnvironment)
    first.reset(seed=3)
    dumped = first.dump_state()
    second.load_state(dumped)
    assert second.state == first.state
    assert dumped is not first.dump_state()
