"""Stage three: a run and a corpus become figures.

`metrics` and `protocol` are NumPy leaves that any stage may import.
"""
