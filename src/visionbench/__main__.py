"""`python -m visionbench`."""

from visionbench.cli import main

if __name__ == "__main__":
    main()
