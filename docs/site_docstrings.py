"""How the reference reads our docstrings: prose under Returns and Yields, and ``::`` before an example."""

import re
from typing import Any

import griffe

SECTION = re.compile(r"((?:Returns|Yields)\n-{3,}\n)(.*?)(?=\n\n\S[^\n]*\n-{3,}\n|\Z)", re.DOTALL)


class ProseReturns(griffe.Extension):
    """Makes docstrings what the parser expects, which takes a line under Returns for a type."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Indent the prose below an empty item, so that the type comes from the signature."""
        if obj.docstring:
            text = SECTION.sub(lambda found: f"{found[1]}:\n{_indented(found[2])}", obj.docstring.value)
            obj.docstring.value = re.sub(r"(?m)^::\n|(?<=\w):(?=:$)", "", text)


def _indented(text: str) -> str:
    return re.sub(r"(?m)^(?=.)", "    ", text)
