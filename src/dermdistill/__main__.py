"""``python -m dermdistill``."""

from dermdistill.cli import run

if __name__ == "__main__":
    run()
