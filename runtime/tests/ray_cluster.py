# SPDX-License-Identifier: BSD-3-Clause
"""Serves an environment with Ray Serve on two nodes of one machine, for tests.

    python ray_cluster.py PORT ARGUMENT...

The arguments are those of `serve run stepwire.integrations.ray_serve:app`. A line on standard input
is a command; its answer is a line of JSON. The end of the input ends all.
"""

import json
import os
import sys

import ray
from ray import serve
from ray.cluster_utils import Cluster
from ray.serve.scripts import cli


def main() -> None:
    """The nodes have two cores each, so two replicas of four."""
    port, *arguments = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what Ray prints
    node = {"num_cpus": 2, "object_store_memory": 100_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    other = cluster.add_node(**node)
    ray.init(address=cluster.address)
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": int(port)})
    # In this process: Ray 2.60 sometimes crashes when a program that has deployed ends.
    deploy = ["run", "--non-blocking", "stepwire.integrations.ray_serve:app", *arguments]
    cli.main(deploy, standalone_mode=False)
    print(json.dumps("started"), file=answers)
    for line in sys.stdin:
        match line.strip():
            case "kill a replica":
                named = ray.util.list_named_actors(all_namespaces=True)
                replica = next(each for each in named if "REPLICA" in each["name"])
                ray.kill(ray.get_actor(**replica))
            case "remove a node":
                cluster.remove_node(other, allow_graceful=False)
            case "deploy again":
                cli.main(deploy, standalone_mode=False)
        print(json.dumps(line.strip()), file=answers)
    serve.shutdown()
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
