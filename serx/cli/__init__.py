"""The command line: one module a verb, each with `add_arguments(parser)` and `main(arguments) -> exit code`.

What the verbs share:

main.py         the `serx` command: handles signals, then runs a verb
verbs.py        finds the verb, and prints the list of all
parsing.py      how the words of a command line are read
options.py      options of several verbs: a recipe, a model, the device
output.py       results as JSON and as an HTML page
parts.py        experiments of many runs: processes, parts, a cluster
execution.py    runs a verb: user modules, one-line errors, exit codes
commands.py     command lines that are printed or started
interrupts.py   signals end a command without a traceback
"""
