"""The commands behind the justfile's recipes: python -m wearable_jupyter COMMAND."""

import sys

from .setup import entry_point


def main() -> int | None:
    from . import command_line  # inside, so that Ctrl-C during these imports prints one line, too

    return command_line.main()


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # a file's name need not be text
    sys.exit(entry_point.exit_code(main))
