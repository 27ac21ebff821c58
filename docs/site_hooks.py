"""What the site has besides the pages in docs/: README.md as a page, and every other file that a page links to."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
README = "README.md"
README_PAGE = "readme.md"
FILES = "files"  # folder of the site for what lies outside docs/
LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)\s#]+)(#[^)\s]*)?(?=\))")


def on_files(files: Files, config: Any) -> Files:
    """Add README.md as a page, and what the pages link to outside docs/."""
    files.append(File.generated(config, README_PAGE, content=(ROOT / README).read_text(encoding="utf-8")))
    pages = [(f"docs/{page.src_uri}", page.content_string) for page in files.documentation_pages()]
    for page, text in [*pages, (README, (ROOT / README).read_text(encoding="utf-8"))]:
        for target, _ in LINK.findall(text):
            path, place = in_repository(page, target), in_site(page, target)
            if place.startswith(f"{FILES}/") and path.is_file() and not files.get_file_from_path(place):
                files.append(File.generated(config, place, content=path.read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links lead where their targets are in the site."""
    here = page.file.src_uri
    source = README if here == README_PAGE else f"docs/{here}"

    def moved(link: re.Match[str]) -> str:
        return posixpath.relpath(in_site(source, link[1]), posixpath.dirname(here) or ".") + (link[2] or "")

    return LINK.sub(moved, markdown)


def in_repository(page: str, target: str) -> Path:
    """Give the file that a link means, of a folder its README; the page is named by its path in the repository."""
    path = ROOT / posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
    return path / README if path.is_dir() else path


def in_site(page: str, target: str) -> str:
    """Say where in the site the target of a link is."""
    path = in_repository(page, target).relative_to(ROOT).as_posix()
    if path == README:
        return README_PAGE
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"{FILES}/{path}" + (".txt" if path.endswith(".md") else "")  # as text: pages stand in the navigation
