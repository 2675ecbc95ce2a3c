"""`python -m va`: the command line, for launchers that start modules, such as torchrun."""

from va.cli import main

main()
