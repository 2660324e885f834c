"""``python -m fastcifar``: the command, from an uninstalled checkout too."""

from fastcifar.cli.app import main

if __name__ == "__main__":
    main()
