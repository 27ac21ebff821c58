"""One page about a run that needs nothing but a browser: the images are in it, and it asks no server for anything."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from camera_trap_al.evaluation import EvaluationReport, plot_confusion_matrix
from camera_trap_al.report.data import PhotoCard, ReportData, interval_of
from camera_trap_al.report.embedding_map import EmbeddingMap
from camera_trap_al.report.html import Raw, image, paragraph, photo_grid, section, table, tiles
from camera_trap_al.report.plots import (
    plot_class_balance,
    plot_embedding_map,
    plot_learning_curve,
    plot_seconds,
    to_png,
)
from camera_trap_al.report.style import STYLE

__all__ = ["render"]

# Nothing from anywhere, no script, no form: only the style and the images that the page itself holds.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
MOST_BARS = 100  # classes that are drawn; a table has them all
SPLITS = {
    "folder": "Measured on the photos of the validation folder.",
    "site": "Measured on photos of sites that the model has not learnt from.",
    "sequence": "Measured on photos of sequences that the model has not learnt from; it may know their sites.",
}
PRIVACY = "This page shows photos and names of files: think of who may see them."


def render(data: ReportData) -> str:
    """Give the page as HTML; it follows from `data` alone."""
    sections = list(_sections(data))
    contents = "\n".join(f'<li><a href="#{anchor}">{escape(title)}</a></li>' for anchor, title, _ in sections)
    body = "\n".join(section(*one) for one in sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{escape(data.run)}: how the run is going</title>
<style>{STYLE}</style>
</head>
<body>
<div class="page">
<nav aria-label="Contents"><ol>
{contents}
</ol></nav>
<main>
<h1>{escape(data.run)}</h1>
{paragraph(f"How the run is going, as of {data.made_at}. {PRIVACY}", "soft")}
{tiles(_tiles(data))}
{paragraph(data.advice, "advice") if data.advice else ""}
{body}
</main>
</div>
</body>
</html>
"""


def _tiles(data: ReportData) -> Iterator[tuple[str, str]]:
    yield f"answers in {data.n_rounds:,} rounds", f"{data.n_answers:,}"
    yield "photos without a label", f"{data.n_unlabelled:,}"
    if data.n_propagated:
        yield "of these learnt from with the label of their sequence", f"{data.n_propagated:,}"
    measured = _measured(data)
    if measured:
        interval = interval_of(measured[-1])
        within = f", {interval[0]:.1%} to {interval[1]:.1%}" if interval else ""
        yield f"accuracy on {data.measured_on} photos{within}", f"{measured[-1]['accuracy']:.1%}"
    if data.evaluation is not None:
        yield "macro F1, each class alike", f"{data.evaluation.macro_f1:.3f}"


def _sections(data: ReportData) -> Iterator[tuple[str, str, Raw]]:
    """Give anchor, title and content of each section."""
    yield "curve", "Learning curve", _join(_curve(data))
    if data.evaluation is not None:
        yield "confusion", "What is taken for what", _join(_confusion(data.evaluation, data.confusion_image))
    yield "classes", "Each class", _join(_classes(data))
    yield "asked", "What was asked, and why", _join(_asked(data))
    yield "doubtful", "Most doubtful photos", _join(_doubtful(data))
    yield "suspects", "Labels to look at again", _join(_suspects(data))
    if data.embedding_map is not None:
        yield "map", "Map of the photos", _join(_map(data.embedding_map))
    if any(point.get("seconds") for point in data.rounds):
        yield "time", "Time", _join(_time(data))


def _join(parts: Iterator[Raw]) -> Raw:
    return Raw("\n".join(parts))


def _measured(data: ReportData) -> list[Mapping[str, Any]]:
    """Give the rounds that were measured on what measures now; figures of other photos are no part of the curve."""
    rounds = (point for point in data.rounds if point.get("measured_on", data.measured_on) == data.measured_on)
    return [point for point in rounds if point.get("accuracy") is not None]


def _curve(data: ReportData) -> Iterator[Raw]:
    measured = _measured(data)
    if not measured:
        yield paragraph("How good the model is has not been measured: there are no photos with known labels for that.")
        return
    last = measured[-1]
    alt = (
        f"Accuracy against labels, {len(measured)} points, the last {last['accuracy']:.1%}. The table has the figures."
    )
    yield image(to_png(plot_learning_curve(measured, data.forecast)), alt)
    yield paragraph(_forecast_told(data))
    header = ("photos learnt from", "accuracy", "95 % interval", "macro F1")
    rows = ((point["train_set_size"], point["accuracy"], _ends(point), point.get("macro_f1")) for point in measured)
    yield table(header, rows, f"Measured on {data.measured_on or 'validation'} photos")


def _ends(point: Mapping[str, Any]) -> str:
    found = interval_of(point)
    return f"{found[0]:.3f} to {found[1]:.3f}" if found else ""


def _forecast_told(data: ReportData) -> str:
    forecast = data.forecast
    if forecast is None:
        return "What more labels are likely to bring can be told once there are figures of four rounds."
    ahead = forecast.at - round(forecast.curve.scale)
    return (
        f"The next {ahead:,} labels are likely to bring {100 * forecast.gain:.1f} points of accuracy "
        f"({100 * forecast.low:.1f} to {100 * forecast.high:.1f} in {100 * forecast.level:.0f} % of such cases), to "
        f"{forecast.figure:.1%}, if the curve goes on as it did."
    )


def _confusion(evaluation: EvaluationReport, drawn: bytes | None) -> Iterator[Raw]:
    alt = f"Confusion matrix of {len(evaluation.conf_mat_classes)} classes; the table has the most confused pairs."
    yield image(drawn or to_png(plot_confusion_matrix(evaluation), 100), alt)
    yield paragraph(SPLITS[evaluation.split])
    if evaluation.n_shared_sequences:
        yield paragraph(
            f"{evaluation.n_shared_sequences:,} sequences have photos both here and among those that the model learnt "
            "from: these figures flatter."
        )
    rows = [(pair.true, pair.predicted, pair.n_images) for pair in evaluation.most_confused]
    if rows:
        yield table(("shows", "is taken for", "photos"), rows, "The most confused pairs")
    else:
        yield paragraph("No validation photo is named wrongly.")


def _classes(data: ReportData) -> Iterator[Raw]:
    names = sorted(data.labels_per_class, key=lambda name: (-data.labels_per_class[name], name))
    shown = {name: data.labels_per_class[name] for name in names[:MOST_BARS]}
    alt = f"Number of labels of {len(shown)} classes. The table has the figures."
    yield image(to_png(plot_class_balance(shown, data.predicted_per_class)), alt)
    header = ["class", "labels"]
    columns: list[Mapping[str, Any]] = [data.labels_per_class]
    if data.predicted_per_class:
        header.append("unlabelled photos taken for it")
        columns.append(data.predicted_per_class)
    if data.prevalence:
        header += ["share of all photos", "95 % interval"]
        columns.append({name: f"{share:.1%}" for name, (share, _) in data.prevalence.items()})
        columns.append({name: _share_told(interval) for name, (_, interval) in data.prevalence.items()})
    if data.evaluation is not None:
        header += ["precision", "recall", "F1", "validation photos"]
        figures = {one.name: one for one in data.evaluation.per_class}
        for what in ("precision", "recall", "f1", "support"):
            columns.append({name: getattr(one, what) for name, one in figures.items()})
    yield table(header, ([name, *(column.get(name) for column in columns)] for name in names), "Each class")
    if data.evaluation is not None:
        yield paragraph("With few validation photos, precision, recall and F1 of a class say little.", "soft")


def _share_told(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.1%} to {interval[1]:.1%}"


def _asked(data: ReportData) -> Iterator[Raw]:
    if not data.asked:
        yield paragraph("Nothing was asked yet.")
        return
    of_them = "" if data.n_asked <= len(data.asked) else f" The first {len(data.asked)} of {data.n_asked:,} are shown."
    yield paragraph(
        f"The photos of round {data.asked_round}, in the order in which they were chosen: those with the highest score "
        f"first, where the strategy (now {data.strategy!r}) has one.{of_them}"
    )
    if data.n_named:
        yield paragraph(f"The model was right about {data.n_named_rightly} of {data.n_named} that it named before.")
    header = ("photo", "file", "score", "the model thought", "confidence", "the expert said")
    yield table(header, map(_asked_row, data.asked), f"Round {data.asked_round}")


def _asked_row(photo: PhotoCard) -> tuple[object, ...]:
    why = Raw("audit") if photo.is_audit else photo.score
    said: object = photo.label
    if photo.label is not None and photo.guess is not None and photo.label != photo.guess:
        said = Raw(f'<span class="differs">{escape(photo.label)}</span>')
    return _thumbnail(photo, "thumb small"), photo.path, why, photo.guess, photo.confidence, said


def _doubtful(data: ReportData) -> Iterator[Raw]:
    if not data.doubtful:
        yield paragraph("There is no photo without a label that the model has looked at.")
        return
    yield paragraph("Of the photos without a label, those whose two likeliest classes are most nearly tied.")
    yield photo_grid((_thumbnail(photo), _doubt_told(photo)) for photo in data.doubtful)


def _doubt_told(photo: PhotoCard) -> str:
    second = f" or {escape(photo.second)}" if photo.second else ""
    return f"<b>{escape(photo.guess or '')}{second}?</b>{_percent(photo.confidence)}<br>{escape(photo.path)}"


def _suspects(data: ReportData) -> Iterator[Raw]:
    if data.suspects_note:
        yield paragraph(data.suspects_note)
    if not data.suspects:
        yield paragraph("No label stands out.")
        return
    yield paragraph(
        "These labels are the least likely according to classifiers that did not learn from them. Look at the photos; "
        "many labels will be right and the photo just unusual. A label is corrected with the next label file."
    )
    yield photo_grid((_thumbnail(photo), _suspicion_told(photo)) for photo in data.suspects)


def _suspicion_told(photo: PhotoCard) -> str:
    return (
        f"<b>{escape(photo.label or '')} {_percent(photo.own_confidence)}</b>"
        f'<span class="differs">{escape(photo.guess or "")} {_percent(photo.confidence)}</span>'
        f"<br>{escape(photo.path)}"
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _thumbnail(photo: PhotoCard, css_class: str = "thumb") -> Raw:
    if photo.thumbnail is None:
        return Raw(f'<div class="{css_class} none">not shown</div>')
    return image(photo.thumbnail, f"Photo {photo.path}", "jpeg", css_class)


def _map(embedding_map: EmbeddingMap) -> Iterator[Raw]:
    n = len(embedding_map.points)
    alt = f"{n} photos as points, coloured by class, on the first two principal components of their embeddings."
    yield image(to_png(plot_embedding_map(embedding_map)), alt)
    sample = f" {n:,} of {embedding_map.n_photos:,} photos are drawn." if n < embedding_map.n_photos else ""
    yield paragraph(
        "What the network finds alike lies together, as far as two of many directions can show it. Large points are "
        f"labelled photos, pale ones are coloured by what the model thinks.{sample}"
    )


def _time(data: ReportData) -> Iterator[Raw]:
    rounds = [point for point in data.rounds if point.get("seconds")]
    yield image(
        to_png(plot_seconds(rounds)), "Seconds of each stage before each question. The table has the last ones."
    )
    yield table(("stage", "seconds"), rounds[-1]["seconds"].items(), "Before the last question")
