# SPDX-License-Identifier: BSD-3-Clause
"""For machines without `curl`: the little of it that the documents use."""

import argparse
import http.cookiejar
import os
import urllib.request

parser = argparse.ArgumentParser()
for option in ("-H", "-d", "-b", "-c"):
    parser.add_argument(option)
parser.add_argument("-s", action="store_true")
parser.add_argument("url")
arguments = parser.parse_args()
name, value = arguments.H.split(": ")
jar = http.cookiejar.MozillaCookieJar()
if arguments.b and os.path.exists(arguments.b):
    jar.load(arguments.b, ignore_discard=True)
opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
request = urllib.request.Request(arguments.url, arguments.d.encode(), {name: value})
print(opener.open(request).read().decode(), end="")
if arguments.c:
    jar.save(arguments.c, ignore_discard=True)
