"""`python -m modelhub` is `modelhub`."""

from __future__ import annotations

from modelhub.cli import main

if __name__ == "__main__":
    main()
