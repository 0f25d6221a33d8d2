"""The command line as a module: `python -m latloop`."""

from latloop.cli.main import main

main()
