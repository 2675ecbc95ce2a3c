"""Settings of the whole suite."""

import os

# Two test processes on two cores: more threads than cores would wait for each other. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
