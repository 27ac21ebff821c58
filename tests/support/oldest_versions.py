"""Prints, as constraints for pip, the oldest version of each library that pyproject.toml allows."""

import re
import tomllib
from pathlib import Path


def main() -> None:
    """Print a line such as ``numpy==1.26`` for each dependency."""
    with (Path(__file__).parents[2] / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["ray"]]:
        print(re.sub(r"\[.*\]", "", requirement).replace(">=", "=="))  # a constraint takes no extras


if __name__ == "__main__":
    main()
