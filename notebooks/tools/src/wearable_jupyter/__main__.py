"""Commands of the justfile's recipes: python -m wearable_jupyter COMMAND."""

import sys

from .setup import entry_point


def main() -> int | None:
    from . import command_line  # here, so that Ctrl-C during these imports prints one line

    return command_line.main()


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # a file name may not be valid UTF-8
    sys.exit(entry_point.exit_code(main))
