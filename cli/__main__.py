"""``python -m dpsr.cli``."""

from dpsr.cli import main

if __name__ == "__main__":
    main()
