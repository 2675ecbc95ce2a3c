"""Stage three: a run and a corpus become figures.

`metrics`, `intervals`, `protocol`, `assemble`, `smoothing` and `diagnostics` are NumPy leaves: any stage may import
them.
"""
