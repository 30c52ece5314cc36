"""`python -m serx COMMAND`: the command line, for an environment whose `serx` command is not on the path."""

from serx.cli.main import main

main()
