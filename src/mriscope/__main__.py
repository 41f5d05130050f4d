"""python -m mriscope: the command line."""

from mriscope.cli import main

main()
