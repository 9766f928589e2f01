# SPDX-License-Identifier: BSD-3-Clause
"""An episode over plain HTTP: the cookie holds it, so use one session for all requests."""

import sys

import requests

url = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000"

with requests.Session() as session:
    session.post(f"{url}/reset", json={"seed": 7, "episode_id": "demo"}, timeout=60)
    for message in ["Hello", "World", "!"]:
        action = {"action": {"message": message}}
        answer = session.post(f"{url}/step", json=action, timeout=60)
        answer.raise_for_status()
        result = answer.json()
        step, echoed = result["metadata"]["step"], result["observation"]["echoed_message"]
        print(f"step {step}: {echoed!r}, reward {result['reward']:.1f}")
    print("state:", session.get(f"{url}/state", timeout=60).json())
