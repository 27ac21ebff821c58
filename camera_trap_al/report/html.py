"""The pieces that a page is made of; whatever comes from files or people is escaped here."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["Raw", "image", "paragraph", "photo_grid", "section", "table", "tiles"]


class Raw(str):
    """HTML that is ready: it is not escaped again."""

    __slots__ = ()


def _text(value: object) -> str:
    if isinstance(value, Raw):
        return value
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    return escape(f"{value:,}" if isinstance(value, int) else str(value))


def image(content: bytes, alt: str, kind: str = "png", css_class: str = "plot") -> Raw:
    """Show an image that the page itself holds.

    Parameters
    ----------
    content
        The bytes of its file.
    alt
        What it shows, for those who cannot see it.
    kind
        Of file: ``png`` or ``jpeg``.
    css_class
        How it is laid out.
    """
    data = b64encode(content).decode("ascii")
    return Raw(f'<img class="{css_class}" alt="{escape(alt)}" src="data:image/{kind};base64,{data}">')


def paragraph(text: str, css_class: str = "") -> Raw:
    """Give a paragraph; `text` is escaped unless it is `Raw`."""
    attribute = f' class="{css_class}"' if css_class else ""
    return Raw(f"<p{attribute}>{_text(text)}</p>")


def section(anchor: str, title: str, *parts: str) -> Raw:
    """Give a section with a heading that the table of contents can point to."""
    return Raw(f'<section id="{anchor}">\n<h2>{escape(title)}</h2>\n' + "\n".join(parts) + "\n</section>")


def table(header: Sequence[str], rows: Iterable[Sequence[object]], caption: str) -> Raw:
    """Give a table that scrolls sideways if it is wide; columns of numbers stand to the right."""
    lines = [tuple(row) for row in rows]
    columns = list(zip(*lines, strict=True)) or [()] * len(header)
    styles = [' class="number"' if all(map(_is_number, column)) else "" for column in columns]
    head = "".join(f'<th scope="col"{style}>{escape(name)}</th>' for name, style in zip(header, styles, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td{style}>{_text(cell)}</td>" for cell, style in zip(line, styles, strict=True)) + "</tr>"
        for line in lines
    )
    return Raw(
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>\n'
        f"<caption>{escape(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _is_number(cell: object) -> bool:
    return cell is None or isinstance(cell, int | float)


def tiles(figures: Iterable[tuple[str, str]]) -> Raw:
    """Give figures in large letters, each with what it is."""
    shown = "".join(f"<div><dd>{escape(figure)}</dd><dt>{escape(what)}</dt></div>" for what, figure in figures)
    return Raw(f'<dl class="tiles">{shown}</dl>')


def photo_grid(photos: Iterable[tuple[str, str]]) -> Raw:
    """Lay out photos side by side, each an image and lines about it, both ready."""
    items = "\n".join(f"<li>{photo}<div>{lines}</div></li>" for photo, lines in photos)
    return Raw(f'<ul class="photos">\n{items}\n</ul>')
