"""Run the ``fastcifar`` command as ``python -m fastcifar``; an uninstalled checkout can use it too."""

from fastcifar.cli.app import main

if __name__ == "__main__":
    main()
