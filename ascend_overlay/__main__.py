"""`python -m ascend_overlay` is the command `ascend-overlay`."""

from ascend_overlay.commands.cli import main

main(prog_name="ascend-overlay")
