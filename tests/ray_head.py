"""A Ray cluster of one machine with two cores for tests, in a process of its own; ends when its input closes."""

import os
import shutil
import sys
import tempfile

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_memory_monitor_refresh_ms": "0"}

if __name__ == "__main__":
    import ray

    folder = tempfile.mkdtemp(prefix="va", dir="/tmp")
    options = {"include_dashboard": False, "object_store_memory": 80 << 20, "_temp_dir": folder}
    print(ray.init("local", num_cpus=2, num_gpus=0, logging_level="ERROR", **options).address_info["address"])
    sys.stdout.flush()
    sys.stdin.read()
    ray.shutdown()
    shutil.rmtree(folder)
