# SPDX-License-Identifier: BSD-3-Clause
"""verifiers' own OpenEnv taskset against a server, with a stand-in for the model.

The stand-in serves the part of OpenAI's API that verifiers uses, and answers with longer and longer
messages. To evaluate a real model, replace the stand-in's address and name in `CONFIG`.
"""

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

url = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000"

CONFIG = """
model = "stand-in"
push = false
output_dir = "{folder}"

[client]
base_url = "http://127.0.0.1:{port}/v1"
api_key_var = "STAND_IN_KEY"

[env.taskset]
id = "openenv"
base_url = "{url}"
# Echo never ends an episode by itself; this scenario ends it at step 3.
resets = [{{ seed = 7, scenario = {{ done_at = 3 }} }}]

[env.player]
harness = {{ id = "null" }}
runtime = {{ type = "subprocess" }}
"""


class StandIn(BaseHTTPRequestHandler):
    """`POST /v1/chat/completions`, streamed."""

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        seen = json.loads(self.rfile.read(length))["messages"][-1]["content"]
        observation = json.loads(seen)["observation"]
        answer = observation["echoed_message"] + "!" if observation["message_length"] else "Hello!"
        print(f"saw {observation['echoed_message']!r}, says {answer!r}")
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for delta, reason in (({"role": "assistant", "content": answer}, None), ({}, "stop")):
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            chunk = {
                "id": "1",
                "object": "chat.completion.chunk",
                "created": 0,
                "model": "stand-in",
            }
            self._send({**chunk, "choices": [choice]})
        self.wfile.write(b"data: [DONE]\n\n")

    def _send(self, event: dict[str, object]) -> None:
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())

    def log_message(self, *_: object) -> None:
        """No access log: `do_POST` prints what matters."""


with tempfile.TemporaryDirectory() as folder, ThreadingHTTPServer(("127.0.0.1", 0), StandIn) as it:
    Thread(target=it.serve_forever, daemon=True).start()
    config = Path(folder, "eval.toml")
    config.write_text(CONFIG.format(folder=folder, port=it.server_port, url=url))
    command = [Path(sysconfig.get_path("scripts"), "vf-eval"), "@", config, "--no-rich"]
    environment = {**os.environ, "STAND_IN_KEY": "none"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    files = Path(folder).rglob("traces.jsonl")
    episodes = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    it.shutdown()
if done.returncode or not episodes or not all(episode["ok"] for episode in episodes):
    sys.exit(done.stdout + done.stderr)
for episode in episodes:
    for trace in episode["traces"]:
        print(*(f"{name}: {value['score']:.1f}" for name, value in trace["rewards"].items()))
