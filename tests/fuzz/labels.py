"""Coverage-guided fuzzing of the annotation parser: `make fuzz`, or `python labels.py -max_total_time=60` here."""

import driver

with driver.instrumented():
    from va.data import labels

if __name__ == "__main__":
    driver.run(labels.read_annotation, name="a.txt", seeds=[b"valence,arousal\n0.5,-0.25\n-5,-5\n1,-1\n"])
