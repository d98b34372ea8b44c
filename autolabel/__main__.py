"""`python -m autolabel`, as the command `autolabel`."""

from autolabel.cli import main

if __name__ == "__main__":
    main()
