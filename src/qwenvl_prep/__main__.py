"""``python -m qwenvl_prep`` is the command line."""

from qwenvl_prep.cli import main

if __name__ == "__main__":
    main()
