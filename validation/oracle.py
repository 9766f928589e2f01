#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The oracle that `openenv.yaml` declares: it earns the largest reward and prints it.

The reward grows with the message, so the longest one that fits into a request earns the most. Runs
beside the server, in its container, with nothing but the standard library.
"""

import json
import os
from urllib.request import Request, urlopen

LONGEST_BODY = 16_777_216  # the default of MAX_MESSAGE_BYTES
BODY = '{"action":{"message":"%s"}}'

body = BODY % ("x" * (LONGEST_BODY - len(BODY % "")))
address = f"http://{os.environ.get('HOST', '127.0.0.1')}:{os.environ.get('PORT', '8000')}/step"
request = Request(address, body.encode(), {"Content-Type": "application/json"})
with urlopen(request, timeout=60) as answer:
    print(json.load(answer)["reward"])
