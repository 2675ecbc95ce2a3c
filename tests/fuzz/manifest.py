"""Coverage-guided fuzzing of the manifest: `make fuzz`, or `python manifest.py -max_total_time=60` here."""

import json

import driver

with driver.instrumented():
    from va.data.corpus import Corpus

CLIP = {"id": "a", "media": "a.mp4", "split": "train", "identity": "p", "frames": 2, "duration_s": 1.5}
MANIFEST = {"schema": 1, "name": "x", "synthetic": True, "media_root": "m", "linked_folders": ["/"], "clips": [CLIP]}

if __name__ == "__main__":
    driver.run(Corpus.load, name="corpus.json", seeds=[json.dumps(MANIFEST).encode()])
