"""The model as pure `torch.nn` modules: no files, no argument parsing, no choice of device.

`head.VAHead` composes the others; `docs/method.md` says what each part takes from the paper and what was
settled here.
"""
