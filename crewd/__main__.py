"""`python -m crewd` and the console script."""


def main() -> None:
    """Run the command line."""
    from crewd.cli.main import cli

    cli(prog_name="crewd")


if __name__ == "__main__":
    main()
