from collections.abc import Sequence
from pathlib import Path
from unicodedata import normalize

import pytest

from camera_trap_al.exceptions import DataError
from camera_trap_al.interchange.megadetector import DetectedPhoto, DetectionFile
from camera_trap_al.interchange.megadetector_paths import MatchedDetections, PathChange, match_detections

FOLDER = Path("/home/me/photos/2023")
PHOTOS = ["site 1/IMG_1.JPG", "site 1/IMG_2.JPG", "site 2/a/IMG_1.JPG", "Forêt/Été 日本.jpg"]


def match(
    files: Sequence[str],
    photos: Sequence[str] = PHOTOS,
    folder: Path = FOLDER,
    path: Path = Path("/elsewhere/md.json"),
) -> MatchedDetections:
    entries = tuple(DetectedPhoto(file, ()) for file in files)
    return match_detections(DetectionFile(path, {}, {"1": "animal"}, entries, (), 0), photos, folder)


def pairs(matched: MatchedDetections) -> dict[str, str]:
    return {photo: entry.file for photo, entry in matched.by_photo.items()}


def test_equal_paths_match():
    matched = match(PHOTOS[::-1])
    assert list(pairs(matched).items()) == [(photo, photo) for photo in PHOTOS]
    assert (matched.without_entry, matched.not_there, matched.repeated) == ((), (), ())
    assert matched.change == PathChange()
    assert str(matched) == "4 of 4 photos have an entry in the detection file."


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda path: path.replace("/", "\\"),
        lambda path: f"./{path}",
        lambda path: f".\\{path}".replace("/", "\\"),
        lambda path: path.replace("/", "//"),
        lambda path: path.replace("/", "/./"),
        lambda path: normalize("NFD", path),
        lambda path: path.lower(),
        lambda path: path.upper(),
        lambda path: normalize("NFD", path.upper()).replace("/", "\\"),
    ],
)
def test_other_ways_to_write_a_path_match(rewrite):
    files = [rewrite(photo) for photo in PHOTOS]
    assert pairs(match(files)) == dict(zip(PHOTOS, files, strict=True))
    decomposed = [normalize("NFD", photo) for photo in PHOTOS]
    assert pairs(match(files, decomposed)) == dict(zip(decomposed, files, strict=True))


def test_what_is_not_matched_is_told():
    matched = match([PHOTOS[0], "site 9/1.jpg", "site 9/2.jpg", PHOTOS[1], PHOTOS[3], f"./{PHOTOS[0]}"])
    assert list(matched.by_photo) == [PHOTOS[0], PHOTOS[1], PHOTOS[3]]
    assert matched.without_entry == (PHOTOS[2],)
    assert matched.not_there == ("site 9/1.jpg", "site 9/2.jpg")
    assert matched.repeated == (f"./{PHOTOS[0]}",)
    assert str(matched) == (
        "3 of 4 photos have an entry in the detection file; photos without an entry: 1, such as site 2/a/IMG_1.JPG; "
        "entries of photos that are not there: 2, such as site 9/1.jpg, site 9/2.jpg; second entries of a photo, which "
        "do not count: 1, such as ./site 1/IMG_1.JPG."
    )


def test_only_a_few_are_named():
    told = str(match([f"{n}.jpg" for n in range(50)], ["a/x.jpg"]))
    assert "50, such as 0.jpg, 1.jpg, 2.jpg;" in told and "3.jpg" not in told
    assert "put the detection file into the folder" in told


@pytest.mark.parametrize("files", [["a/1.JPG", "a/1.jpg"], ["a/1.jpg", "a/1.JPG"]])
def test_an_exact_match_wins_over_one_that_differs_in_case(files):
    assert pairs(match(files, ["a/1.jpg"])) == {"a/1.jpg": "a/1.jpg"}
    assert match(files, ["a/1.jpg"]).repeated == ("a/1.JPG",)
    assert pairs(match(files, ["a/1.jpg", "a/1.JPG"])) == {"a/1.jpg": "a/1.jpg", "a/1.JPG": "a/1.JPG"}


def test_two_photos_that_differ_in_case_are_not_mistaken_for_each_other():
    matched = match(["a/1.Jpg", "b/2.jpg"], ["a/1.jpg", "a/1.JPG", "b/2.jpg"])
    assert pairs(matched) == {"b/2.jpg": "b/2.jpg"}
    assert matched.not_there == ("a/1.Jpg",)


def test_photos_that_differ_in_the_form_of_an_accent_are_told_apart():
    photos = [normalize(form, "é/1.jpg") for form in ("NFC", "NFD")]
    assert pairs(match(photos, photos)) == dict(zip(photos, photos, strict=True))


@pytest.mark.parametrize(
    ("start", "removed"),
    [
        ("/home/me/photos/2023/", "home/me/photos/2023/"),  # absolute
        ("C:\\Users\\me\\photos\\2023\\", "C:/Users/me/photos/2023/"),  # absolute, on another computer
        ("\\\\nas\\photos\\2023\\", "nas/photos/2023/"),
        ("D:/quite other/", "D:/quite other/"),
        ("2023/", "2023/"),  # relative to a folder above
        ("photos/2023/", "photos/2023/"),
        ("../2023/", "../2023/"),
    ],
)
def test_one_beginning_of_all_paths_is_left_out(start, removed):
    files = [start + photo for photo in PHOTOS]
    matched = match(files)
    assert pairs(matched) == dict(zip(PHOTOS, files, strict=True))
    assert matched.change == PathChange(removed=removed)
    assert f'its paths begin with "{removed}", which was left out' in str(matched)


def test_paths_relative_to_a_subfolder_get_its_name_put_before_them():
    matched = match(["IMG_1.JPG", "IMG_2.JPG"])
    assert pairs(matched) == {"site 1/IMG_1.JPG": "IMG_1.JPG", "site 1/IMG_2.JPG": "IMG_2.JPG"}
    assert matched.change == PathChange(added="site 1/")
    assert '"site 1/" was put before its paths' in str(matched)


@pytest.mark.parametrize("start", ["C:/Photos/2023/", ""])
def test_a_beginning_is_found_where_case_and_accents_differ_too(start):
    files = [start + normalize("NFD", photo.upper()) for photo in PHOTOS]
    photos = PHOTOS if start else [f"a/{photo}" for photo in PHOTOS]
    assert pairs(match(files, photos)) == dict(zip(photos, files, strict=True))


def test_the_file_may_be_of_several_folders():
    photos = [f"cam/{n}.jpg" for n in range(10)]
    files = [f"D:\\p\\{folder}\\cam\\{n}.jpg" for folder in ("train", "2023", "test") for n in range(10)]
    matched = match(files, photos)
    assert pairs(matched) == {f"cam/{n}.jpg": f"D:\\p\\2023\\cam\\{n}.jpg" for n in range(10)}
    assert matched.not_there == (*files[:10], *files[20:])


def test_cameras_that_count_alike_are_not_mistaken_for_each_other():
    """The file is of site 1, or of site 2: nothing tells, and boxes on the wrong photos would be worse than none."""
    photos = [f"site {site}/IMG_{n}.JPG" for site in (1, 2) for n in range(10)]
    matched = match([f"IMG_{n}.JPG" for n in range(9)], photos)
    assert not matched.by_photo and len(matched.not_there) == 9
    assert matched.change == PathChange()


def test_where_the_file_lies_tells_of_which_folder_it_is():
    """As Timelapse takes it (section 6.1 of the facts about it)."""
    photos = [f"Site {site}/IMG_{n}.JPG" for site in (1, 2) for n in range(10)]
    files = [f"IMG_{n}.JPG" for n in range(9)]
    matched = match(files, photos, path=FOLDER / "Site 2" / "md.json")
    assert pairs(matched) == {f"Site 2/{file}": file for file in files}


def test_where_the_folder_lies_tells_which_beginning_is_meant():
    photos = [f"IMG_{n}.JPG" for n in range(10)]
    files = [f"{site}/100EK113/{photo}" for site in ("site 1", "site 2") for photo in photos]
    assert not match(files, photos, Path("/data/site 3/100EK113")).by_photo
    matched = match(files, photos, Path("/data/site 2/100EK113"))
    assert pairs(matched) == {photo: f"site 2/100EK113/{photo}" for photo in photos}


@pytest.mark.parametrize(("n_matching", "is_taken"), [(18, True), (17, False)])
def test_nine_in_ten_must_match_with_a_beginning_that_nothing_else_speaks_for(n_matching, is_taken):
    photos = [f"a/{n}.jpg" for n in range(20)]
    files = [f"x/a/{n}.jpg" if n < n_matching else f"x/b/{n}.jpg" for n in range(20)]
    assert len(match(files, photos).by_photo) == n_matching * is_taken


def test_a_single_path_with_the_name_of_the_folder_does_not_hide_what_all_others_say():
    photos = [f"a/{n}.jpg" for n in range(20)]
    files = ["D:/2023/a/1.jpg", *(f"E:/b/a/{n}.jpg" for n in range(20))]
    assert match(files, photos).change == PathChange(removed="E:/b/")


@pytest.mark.parametrize(("n_matching", "is_taken"), [(10, True), (9, False)])
def test_half_is_enough_with_a_beginning_that_ends_with_the_name_of_the_folder(n_matching, is_taken):
    photos = [f"a/{n}.jpg" for n in range(20)]
    files = [f"D:/2023/a/{n}.jpg" if n < n_matching else f"D:/2022/b/{n}.jpg" for n in range(20)]
    assert len(match(files, photos).by_photo) == n_matching * is_taken


def test_a_few_are_enough_with_a_beginning_that_agrees_with_where_the_folder_lies():
    photos = [f"a/{n}.jpg" for n in range(20)]
    files = [f"photos/2023/a/{n}.jpg" if n < 2 else f"photos/2022/b/{n}.jpg" for n in range(20)]
    assert len(match(files, photos).by_photo) == 2


def of_two_folders(n):
    """The file has ten photos of a folder `a`; of these, `n` are in the one at the top, and ten in another in `b`."""
    return [f"a/{each}.jpg" for each in range(10)], [
        *(f"a/{each}.jpg" for each in range(n)),
        *(f"b/a/{each}.jpg" for each in range(10)),
    ]


def test_a_beginning_is_taken_if_no_more_than_half_as_many_match_as_they_are():
    files, photos = of_two_folders(5)
    assert pairs(match(files, photos)) == {f"b/{file}": file for file in files}


@pytest.mark.parametrize("n", [6, 10])
def test_paths_that_may_be_meant_as_they_are_or_otherwise_are_refused(n):
    """Boxes on the wrong photos would be worse than none."""
    with pytest.raises(DataError, match=rf'{n} are of a photo as they are, and 10 are with "b/" before them') as error:
        match(*of_two_folders(n))
    assert error.value.path == Path("/elsewhere/md.json")


@pytest.mark.parametrize("n", [5, 6, 10])
def test_where_the_file_lies_tells_whether_paths_are_meant_as_they_are(n):
    files, photos = of_two_folders(n)
    assert list(pairs(match(files, photos, path=FOLDER / "md.json"))) == photos[:n]
    assert list(pairs(match(files, photos, path=FOLDER / "b" / "md.json"))) == photos[n:]


@pytest.mark.parametrize("n", [1, 9, 10])
def test_paths_from_a_folder_above_are_not_taken_for_those_of_a_folder_within_that_is_called_alike(n):
    """Photos in 2023 and in 2023/2023; the file was made for the folder above, as the place of the photos tells."""
    photos = [*(f"{each}.jpg" for each in range(10)), *(f"2023/{each}.jpg" for each in range(n))]
    files = [f"2023/{each}.jpg" for each in range(10)]
    matched = match(files, photos)
    assert pairs(matched) == {f"{each}.jpg": f"2023/{each}.jpg" for each in range(10)}
    assert matched.change == PathChange(removed="2023/")
    in_the_folder = match(files, photos, path=FOLDER / "md.json")
    assert list(pairs(in_the_folder)) == (photos[10:] if n >= 5 else photos[:10])


def test_paths_of_everything_are_meant_as_they_are_where_folders_repeat():
    photos = [f"{'a/' * depth}{each}.jpg" for depth in range(5) for each in range(10)]
    assert pairs(match(photos, photos)) == dict(zip(photos, photos, strict=True))


def test_a_folder_within_that_ends_with_the_name_of_the_whole_does_not_speak_against_the_paths_as_they_are():
    photos = [*(f"{each}.jpg" for each in range(10)), *(f"copy/2023/{each}.jpg" for each in range(10))]
    files = [f"copy/2023/{each}.jpg" for each in range(10)]
    with pytest.raises(DataError, match='10 are without "copy/2023/" at their beginning'):
        match(files, photos)
    assert list(pairs(match(files, photos, path=FOLDER / "md.json"))) == files


def test_nothing_is_changed_if_less_would_match_then():
    photos = [f"a/{n}.jpg" for n in range(10)]
    files = [*photos[:4], *(f"z/{n}.jpg" for n in range(6)), "2023/a/9.jpg"]
    assert list(pairs(match(files, photos))) == photos[:4]


@pytest.mark.parametrize(("files", "photos"), [([], PHOTOS), (PHOTOS, []), ([], [])])
def test_without_photos_or_entries_nothing_matches(files, photos):
    matched = match(files, photos)
    assert not matched.by_photo
    assert (matched.not_there, matched.without_entry) == (tuple(files), tuple(photos))


def test_matching_many_paths_takes_no_time_to_speak_of():
    photos = [f"site {n % 100}/{n}.jpg" for n in range(20_000)]
    for start, folder in (("C:\\p\\", FOLDER), ("2023/", FOLDER)):
        assert len(match([start + photo for photo in photos], photos, folder).by_photo) == 20_000
    assert len(match(photos, [f"a/b/{photo}" for photo in photos]).by_photo) == 20_000
