"""`visionbench`, and `python -m visionbench`."""

from visionbench import signals


def main() -> None:
    """Run the command. A signal during the imports ends it with one line."""
    signals.end_at_once()
    from visionbench import cli

    try:
        cli.main()
    finally:
        signals.end_silently()


if __name__ == "__main__":
    main()
