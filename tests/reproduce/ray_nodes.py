"""A Ray cluster of two nodes on loopback: `python -m tests.reproduce.ray_nodes`.

It prints its address. The line `kill` kills the second node and starts another one; the end of the input ends it all.
"""

from __future__ import annotations

import contextlib
import socket
import sys

from ray.cluster_utils import Cluster

# a lost node is noticed within seconds, not within half a minute
WATCHFUL = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
SMALL = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
# processes that these tests do without
SMALL |= {"include_log_monitor": False, "no_monitor": True}
# of a node's agents; told beforehand, since a node waits no more than 15 s for ports that its agents choose
PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")


def small() -> dict[str, int]:
    """What a node gets."""
    with contextlib.ExitStack() as stack:
        asked = [stack.enter_context(socket.socket()) for _ in PORTS]
        for each in asked:
            each.bind(("127.0.0.1", 0))
        return {**SMALL, **{name: each.getsockname()[1] for name, each in zip(PORTS, asked, strict=True)}}


def main() -> None:
    """Serve until the input ends."""
    cluster = Cluster(initialize_head=True, head_node_args={**small(), "_system_config": WATCHFUL})
    try:
        second = cluster.add_node(**small())
        print(cluster.address, flush=True)
        for line in sys.stdin:
            assert line == "kill\n", line
            cluster.remove_node(second, allow_graceful=False)
            print("killed", flush=True)
            second = cluster.add_node(**small())
            print("added", flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
