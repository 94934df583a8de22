"""Makes ``python -m loadgen`` the same as the command ``loadgen``."""

from loadgen.command import main

main()
