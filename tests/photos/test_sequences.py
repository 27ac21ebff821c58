"""Which photos are one burst, against a slow obvious reference and cases from the field."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camera_trap_al.exceptions import LabelFileError
from camera_trap_al.labelling.site_table import read_sites
from camera_trap_al.photos.sequences import group_sequences, site_of

MINUTE = 60_000.0
NAN = np.nan


def grouped(paths: list[str], times: list[float], sites: list[str] | None = None, **settings: object) -> list[int]:
    sites = [site_of(path) for path in paths] if sites is None else sites
    return group_sequences(paths, sites, np.array(times), **settings).tolist()  # type: ignore[arg-type]


def test_photos_within_the_gap_are_one_burst() -> None:
    paths = [f"a/{number}.jpg" for number in range(6)]
    assert grouped(paths, [0, 10_000, 69_999, 130_000, 190_000, 191_000]) == [0, 0, 0, 1, 2, 2]
    assert grouped(paths, [0, 10_000, 69_999, 130_000, 190_000, 191_000], gap=61) == [0] * 6
    assert grouped(paths, [0, 300, 600, 2_000, 2_100, 9_000], gap=1) == [0, 0, 0, 1, 1, 2], "parts of a second"


def test_midnight_is_nothing_special() -> None:
    day = 24 * 60 * MINUTE
    assert grouped(["a/1.jpg", "a/2.jpg"], [5 * day - 5_000, 5 * day + 5_000]) == [0, 0]


def test_two_cameras_with_equal_file_names_are_two_sites() -> None:
    assert grouped(["a/IMG_1.jpg", "b/IMG_1.jpg", "a/IMG_2.jpg"], [0, 0, 5_000]) == [0, 1, 0]
    pattern = r"(SEQ\d+)_IMG"
    paths = ["a/SEQ1_IMG1.jpg", "b/SEQ1_IMG1.jpg", "a/SEQ1_IMG2.jpg", "a/SEQ2_IMG1.jpg"]
    assert grouped(paths, [NAN] * 4, pattern=pattern) == [0, 1, 0, 2]


def test_photos_without_a_site_are_one_burst_by_time_only_if_they_lie_in_one_folder() -> None:
    paths = ["fox/1.jpg", "fox/2.jpg", "deer/1.jpg"]
    assert grouped(paths, [0, 5_000, 5_000], ["", "", ""]) == [0, 0, 1]
    named = ["fox/SEQ1_1.jpg", "deer/SEQ1_2.jpg"]
    assert grouped(named, [NAN] * 2, ["", ""], pattern="SEQ[0-9]+") == [0, 0], "names tell it anyway"


def test_the_order_of_the_photos_does_not_matter_but_for_the_numbers() -> None:
    assert grouped(["b/2.jpg", "a/2.jpg", "b/1.jpg", "a/1.jpg"], [3_000, 200_000, 0, 201_000]) == [0, 1, 0, 1]


def test_photos_without_a_time_are_one_each() -> None:
    assert grouped(["a/1.jpg", "a/2.jpg", "a/3.jpg"], [NAN, 0, NAN]) == [0, 1, 2]
    assert grouped([], []) == []


def test_a_pattern_counts_before_the_time() -> None:
    paths = ["a/SEQ1_1.jpg", "a/SEQ1_2.jpg", "a/x1.jpg", "a/x2.jpg"]
    assert grouped(paths, [0, 100 * MINUTE, 0, 1_000], pattern="SEQ[0-9]+") == [0, 0, 1, 1]


def test_a_group_that_takes_no_part_in_a_match_leaves_the_whole() -> None:
    assert grouped(["AB1.jpg", "B1.jpg", "B2.jpg", "AB2.jpg"], [NAN] * 4, pattern="(A)?B") == [0, 1, 1, 0]


def test_after_the_clock_was_reset_the_same_time_is_another_burst() -> None:
    # Three batteries: each time the clock starts again, and photos 0, 5 and 10 have the same time.
    hours = 60 * MINUTE * np.arange(5)
    paths = [f"a/{number:02}.jpg" for number in range(15)]
    assert grouped(paths, [*hours, *hours, *hours]) == list(range(15))


def test_the_clock_may_be_reset_within_a_burst_of_which_the_rest_stays_together() -> None:
    later = 100 * MINUTE + 2_000.0 * np.arange(4)
    earlier = 2_000.0 * np.arange(4)
    assert grouped([f"a/{number}.jpg" for number in range(8)], [*later, *earlier]) == [0] * 4 + [1] * 4


def test_where_names_are_in_no_order_of_time_they_say_nothing_of_resets() -> None:
    times = [5 * MINUTE, 0, 5 * MINUTE + 1_000, 1_000, 5 * MINUTE + 2_000, 2_000]
    assert grouped([f"a/{number}.jpg" for number in range(6)], times) == [0, 1, 0, 1, 0, 1]


def test_a_burst_goes_on_in_the_next_folder_of_its_site() -> None:
    paths = ["site/100/9999.jpg", "site/101/0001.jpg"]
    assert grouped(paths, [0, 2_000], ["site", "site"]) == [0, 0]
    assert grouped(paths, [0, 2_000]) == [0, 1]


def test_numbers_in_names_that_are_not_filled_up_are_in_their_order() -> None:
    # As Windows renames: as text, "deer (10)" comes before "deer (2)", which would look like a clock that was reset.
    hours = [60 * MINUTE * (number // 3) + 1_000 * (number % 3) for number in range(300)]
    numbers = grouped([f"a/deer ({number + 1}).jpg" for number in range(300)], hours)
    assert numbers == [number // 3 for number in range(300)]


def reference(sites: list[str], times: list[float], gap: float) -> set[frozenset[int]]:
    """Bursts without resets: join a photo to the one before it at its site, photo by photo."""
    found: list[set[int]] = []
    for site in sorted(set(sites)):
        rows = sorted((row for row in range(len(times)) if sites[row] == site), key=lambda row: times[row])
        for before, row in zip([None, *rows], rows, strict=False):
            if before is not None and times[row] - times[before] < gap:
                found[-1].add(row)
            else:
                found.append({row})
    return {frozenset(each) for each in found}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 400)), max_size=40))
@settings(deadline=None)
def test_it_equals_the_reference_on_names_in_the_order_of_time(photos: list[tuple[str, int]]) -> None:
    photos = sorted(photos, key=lambda photo: photo[1])
    sites, times = [site for site, _ in photos], [1000.0 * second for _, second in photos]
    numbers = grouped([f"{site}/{row:03}.jpg" for row, site in enumerate(sites)], times, gap=10)
    found = {frozenset(np.flatnonzero(np.array(numbers) == number).tolist()) for number in set(numbers)}
    assert found == reference(sites, times, 10_000)
    firsts = [numbers.index(number) for number in range(len(found))]
    assert firsts == sorted(firsts), "numbered by their first photos"


@st.composite
def photos_of_cameras(draw: st.DrawFn) -> list[tuple[str, str, float]]:
    """Path, site and time of photos in some folders, whose clocks mostly go on, in any order."""
    photos = []
    for folder in draw(st.lists(st.sampled_from(["a/1", "a/2", "b/1", "b/2"]), unique=True)):
        time = 0
        for number in range(draw(st.integers(0, 14))):
            time += draw(st.sampled_from(2 * [0, 1_000, 1_999, 2_000, 9_000] + [-1_999, -2_000, -30_000]))
            photos.append((f"{folder}/{number}.jpg", folder[0], NAN if draw(st.integers(0, 9)) == 0 else float(time)))
    return draw(st.permutations(photos))


def reference_with_resets(photos: list[tuple[str, str, float]], gap: float) -> set[frozenset[int]]:
    """Bursts, one photo after the other; the numbers in names are their order."""
    found = {frozenset([row]) for row, (_, _, time) in enumerate(photos) if np.isnan(time)}
    stretches: dict[tuple[str, str, int], list[tuple[float, int]]] = {}
    for folder in sorted({path.rpartition("/")[0] for path, _, _ in photos}):
        inside = [
            (int(path.rpartition("/")[2].removesuffix(".jpg")), time, row, site)
            for row, (path, site, time) in enumerate(photos)
            if path.rpartition("/")[0] == folder and not np.isnan(time)
        ]
        inside.sort()
        goes_back = [before[1] - after[1] >= gap for before, after in pairwise(inside)]
        is_told = 4 * sum(goes_back) < len(goes_back)
        for place, (_, time, row, site) in enumerate(inside):
            n_resets = sum(goes_back[:place]) if is_told else 0
            # Before any reset, a burst may go on in another folder of the site.
            stretches.setdefault((site, folder if n_resets else "", n_resets), []).append((time, row))
    for timed in stretches.values():
        burst: list[tuple[float, int]] = []
        for time, row in sorted(timed):
            if burst and time - burst[-1][0] >= gap:
                found.add(frozenset(row for _, row in burst))
                burst = []
            burst.append((time, row))
        found.add(frozenset(row for _, row in burst))
    return found


@given(photos_of_cameras())
@settings(deadline=None, max_examples=200)
def test_it_equals_the_reference_where_clocks_were_reset(photos: list[tuple[str, str, float]]) -> None:
    paths, sites, times = ([photo[part] for photo in photos] for part in range(3))
    numbers = np.array(grouped(paths, times, sites, gap=2))
    assert {frozenset(np.flatnonzero(numbers == number).tolist()) for number in set(numbers.tolist())} == (
        reference_with_resets(photos, 2_000)
    )


@pytest.mark.parametrize(
    ("path", "level", "below_class", "site"),
    [
        ("site/cam/1.jpg", None, False, "site/cam"),
        ("site/cam/1.jpg", 1, False, "site"),
        ("site/cam/1.jpg", 2, False, "cam"),
        ("site/cam/1.jpg", 3, False, ""),
        ("deer/site/1.jpg", None, True, "site"),
        ("deer/1.jpg", None, True, ""),
        ("1.jpg", None, False, ""),
    ],
)
def test_sites_by_folder(path: str, level: int | None, below_class: bool, site: str) -> None:
    assert site_of(path, level, below_class=below_class) == site


def test_sites_by_table(tmp_path: Path) -> None:
    table = tmp_path / "sites.csv"
    table.write_bytes(
        "RelativePath;Site;File\r\nnorth\\Cam1;Brook;\r\nnorth;Hill;\r\nnorth;Pond;x.jpg\r\n".encode("cp1252")
    )
    sites = read_sites(table)
    assert sites.site_of("north/cam1/100/a.jpg") == "Brook", "the nearest folder, whatever the case"
    assert sites.site_of("north/a.jpg") == "Hill"
    assert sites.site_of("North/x.JPG") == "Pond"
    assert sites.site_of("south/a.jpg") is None
    assert sites.without_photo(["North/CAM1/a.jpg", "south/b.jpg"]) == ["north/x.jpg"]


def test_a_line_without_a_site_and_the_form_of_accents_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "sites.csv").write_text("RelativePath,site\nété,Hill\nété/1,\n", encoding="utf-8")
    assert read_sites(tmp_path / "sites.csv").site_of("e\u0301te\u0301/1/a.jpg") == "Hill"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("RelativePath,site\na,x\nA/,y\n", "several sites for one place"),
        ("Folder,site\na,x\n", "cannot be read as a table of sites"),
        ("", "cannot be read as a table of sites"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "sites.csv").write_text(content, encoding="utf-8")
    with pytest.raises(LabelFileError, match=told):
        read_sites(tmp_path / "sites.csv")
