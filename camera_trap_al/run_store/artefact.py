"""A file of a run that can be made again from the labels, and what it was made from."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from camera_trap_al.files import prepared_aside, sha256_of

__all__ = ["Artefact"]


@dataclass(frozen=True)
class Artefact:
    """A file that can be made again from the labels, and what it was made from.

    Attributes
    ----------
    file
        Path in the run folder, separated by ``/``.
    lineage
        Names of its inputs, as plain values: when an input differs, the artefact is stale.
    write
        Writes the file to the path it is given.
    """

    file: str
    lineage: Mapping[str, Any]
    write: Callable[[Path], None]

    def prepare(self, folder: Path) -> tuple[str, str, str]:
        """Write the file aside in a run folder; give its path, SHA-256 and lineage as the database keeps them."""
        with prepared_aside(folder / self.file) as prepared:
            self.write(prepared)
        return self.file, sha256_of(prepared), json.dumps(dict(self.lineage))
