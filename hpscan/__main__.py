"""``python -m hpscan``: the command line, for who has an interpreter and not its scripts on the path."""

from hpscan.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
