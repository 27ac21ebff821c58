import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from camera_trap_al.report import render
from camera_trap_al.report.html import Raw, photo_grid, table

VOID = {"meta", "img", "br"}  # have no end tag
SECTIONS = ["curve", "confusion", "classes", "asked", "doubtful", "suspects", "map", "time"]


class Reader(HTMLParser):
    """Takes a page apart, and insists that every tag is closed in its place."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.text, self.tables = [], [], [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.text.append(data)
        if self.open and {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def column(self, title):
        """Cells of the first table that has such a column."""
        found = next(rows for rows in self.tables if title in rows[0])
        at = found[0].index(title)
        return [row[at] for row in found[1:]]

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


@pytest.fixture
def page(report_data):
    return Reader(render(report_data))


def test_the_page_follows_from_its_data_alone(report_data):
    assert render(report_data) == render(report_data)


def test_the_page_is_html_with_language_encoding_and_a_table_of_contents(report_data, page):
    assert render(report_data).startswith("<!DOCTYPE html>\n")
    assert page.all("html") == [{"lang": "en"}]
    assert page.all("meta")[0] == {"charset": "utf-8"}
    assert [attrs["id"] for attrs in page.all("section")] == SECTIONS
    assert [attrs["href"] for attrs in page.all("a")] == [f"#{anchor}" for anchor in SECTIONS]


def test_nothing_is_loaded_from_anywhere_and_nothing_runs(report_data, page):
    (policy,) = (attrs["content"] for attrs in page.all("meta") if "http-equiv" in attrs)
    assert "default-src 'none'" in policy and "script" not in policy and "http" not in policy
    assert not {"script", "link", "iframe", "object", "form"} & {name for name, _ in page.tags}
    for name, attrs in page.tags:
        assert not [key for key in attrs if key.startswith("on")], (name, attrs)
        for key in ("src", "href"):
            assert attrs.get(key, "#").startswith(("#", "data:image/")), attrs
    assert not re.search(r"url\(|@import", render(report_data))


def test_every_image_can_be_decoded_and_says_what_it_shows(page):
    images = page.all("img")
    assert len(images) == 5 + 4  # plots and photos
    for attrs in images:
        assert len(attrs["alt"]) > 5
        kind, content = attrs["src"].removeprefix("data:image/").split(";base64,")
        with Image.open(BytesIO(base64.b64decode(content, validate=True))) as image:
            assert image.format.lower() == kind
            image.load()


def test_names_are_shown_as_they_are_and_are_no_html(report_data, page):
    names = list(report_data.labels_per_class)
    assert page.column("class") == names
    assert page.column("file") == ["a/1.jpg", "a/<b>&2.jpg", "a/3.jpg"]
    assert "Wood <1> & co" in page.words
    assert "Advice: go on <now>." in page.words


def test_each_class_has_its_figures_in_a_line(page):
    assert page.column("labels") == ["150", "100", "49", "1"]
    assert page.column("unlabelled photos taken for it") == ["1,000", "500", "250", "0"]
    assert page.column("share of all photos") == ["50.0%", "25.0%", "", ""]
    shares = next(rows for rows in page.tables if "share of all photos" in rows[0])
    assert [row[4] for row in shares[1:]] == ["40.0% to 60.0%", "", "", ""]
    # Of three photos of the first class two are named rightly; the second gets its three and one more.
    assert page.column("precision") == ["1.000", "0.750", "1.000", ""]
    assert page.column("recall") == ["0.667", "1.000", "1.000", ""]
    assert page.column("validation photos") == ["3", "3", "3", ""]
    assert page.column("is taken for") == ['$x$ & "y"']


def test_the_curve_is_told_too(page):
    assert page.column("photos learnt from") == ["100", "200", "300"]
    assert page.column("95 % interval") == ["0.500 to 0.700", "0.650 to 0.800", ""]
    assert page.column("macro F1") == ["", "0.600", "0.700"]
    assert "The next 100 labels are likely to bring 2.0 points of accuracy (1.0 to 3.0 in 80 %" in page.words
    assert "to 82.0%" in page.words


def test_what_was_asked_comes_with_reason_thought_and_answer(page, report_data):
    names = list(report_data.labels_per_class)
    assert page.column("score") == ["-0.100", "-0.250", "audit"]
    assert page.column("the model thought") == [names[0], names[1], ""]
    assert page.column("the expert said") == [names[0], names[0], "unusable"]
    assert "The first 3 of 5 are shown" in page.words
    assert "right about 1 of 2 that it named" in page.words
    assert len([attrs for attrs in page.all("span") if attrs.get("class") == "differs"]) == 2  # here and a suspect


def test_doubtful_and_suspected_photos_are_told_with_what_is_thought(page, report_data):
    names = list(report_data.labels_per_class)
    assert f"{names[2]} or {names[3]}? 41% b/4.jpg" in page.words
    assert f"{names[0]} 2% {names[1]} 93% train_data/5.jpg" in page.words
    assert "300 of 300 labelled photos were judged." in page.words


def test_the_last_times_are_in_a_table(page):
    assert page.column("stage") == ["training", "embedding"]
    assert page.column("seconds") == ["20.000", "5.500"]


def test_a_run_that_cannot_be_measured_says_so(bare_data):
    page = Reader(render(bare_data))
    assert [attrs["id"] for attrs in page.all("section")] == ["curve", "classes", "asked", "doubtful", "suspects"]
    assert "How good the model is has not been measured" in page.words
    assert "Nothing was asked yet" in page.words
    assert "No label stands out" in page.words


def test_figures_on_other_photos_are_no_part_of_the_curve(report_data, rounds):
    mixed = [{**rounds[0], "measured_on": "audit"}, *({**one, "measured_on": "validation"} for one in rounds[1:])]
    assert Reader(render(replace(report_data, rounds=mixed))).column("photos learnt from") == ["200", "300"]
    audited = Reader(render(replace(report_data, rounds=mixed, measured_on="audit", evaluation=None, forecast=None)))
    assert audited.column("photos learnt from") == ["100"]
    assert "accuracy on audit photos, 50.0% to 70.0%" in audited.words
    assert "once there are figures of four rounds" in audited.words


def test_a_confusion_matrix_that_is_drawn_already_is_not_drawn_again(report_data, monkeypatch):
    monkeypatch.setattr("camera_trap_al.report.page.plot_confusion_matrix", None)
    with pytest.raises(TypeError):
        render(report_data)
    page = Reader(render(replace(report_data, confusion_image=b"drawn")))
    assert f"data:image/png;base64,{base64.b64encode(b'drawn').decode()}" in [a["src"] for a in page.all("img")]


def test_a_page_with_many_classes_and_photos_is_no_larger_than_a_few_megabytes(report_data, make_map):
    names = tuple(f"species {i}" for i in range(20))
    rng = np.random.default_rng(0)
    large_map = replace(
        make_map(names),
        points=rng.normal(size=(5000, 2)),
        class_ids=rng.integers(0, 20, 5000),
        is_labelled=rng.random(5000) < 0.2,
    )
    photo = replace(report_data.asked[0], thumbnail=rng.bytes(8000))  # noise, larger than any photo of this size
    data = replace(
        report_data,
        labels_per_class=dict.fromkeys(names, 50),
        predicted_per_class=dict.fromkeys(names, 1000),
        asked=(photo,) * 60,
        doubtful=(photo,) * 24,
        suspects=(photo,) * 24,
        embedding_map=large_map,
    )
    assert len(render(data)) < 3e6


def test_columns_of_numbers_stand_to_the_right():
    reader = Reader(table(("a", "b", "c"), [(1, "x", 2.5), (None, 3, None)], "<caption>"))
    assert [attrs.get("class") for attrs in reader.all("th")] == ["number", None, "number"]
    assert [attrs.get("class") for attrs in reader.all("td")] == ["number", None, "number"] * 2
    assert reader.tables == [[["a", "b", "c"], ["1", "x", "2.500"], ["", "3", ""]]]
    assert Reader(table(("a",), [], "nothing")).tables == [[["a"]]]


def test_only_what_is_marked_as_html_is_html():
    assert Reader(table(("a",), [("<i>x</i>",), (Raw("<i>x</i>"),)], "")).column("a") == ["<i>x</i>", "x"]
    assert "<b>" in photo_grid([("<b>", "")])
