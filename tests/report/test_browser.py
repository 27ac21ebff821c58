"""The page in a real browser: Chromium without a window, which can reach nothing."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from camera_trap_al.report import ReportData, render

pytestmark = pytest.mark.browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
SIZES = {"screen": (1300, 900), "phone": (400, 800)}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("Chromium and its driver are not installed (Debian: apt-get install chromium chromium-driver).")
    options = Options()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(DRIVER))
    yield driver
    driver.quit()


def opened(browser: webdriver.Chrome, path: Path, html: str) -> webdriver.Chrome:
    path.write_text(html, "utf-8")
    browser.get_log("browser")  # forgets what earlier pages said
    browser.set_window_size(*SIZES["screen"])
    browser.get(path.as_uri())
    return browser


@pytest.fixture
def page(browser: webdriver.Chrome, tmp_path: Path, report_data: ReportData) -> webdriver.Chrome:
    return opened(browser, tmp_path / "report.html", render(report_data))


def test_every_image_is_shown_and_the_console_stays_empty(page: webdriver.Chrome) -> None:
    widths = page.execute_script("return [...document.images].map(image => image.naturalWidth)")
    assert len(widths) == 9
    assert all(width > 0 for width in widths)
    assert page.get_log("browser") == []


def test_nothing_is_asked_of_any_server(page: webdriver.Chrome) -> None:
    loaded = page.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []


def test_the_policy_of_the_page_holds(browser: webdriver.Chrome, tmp_path: Path, report_data: ReportData) -> None:
    """The same page with a script and an image from elsewhere smuggled in: the browser refuses both."""
    smuggled = '<script>document.title = "ran"</script><img src="http://example.invalid/x.png">'
    page = opened(browser, tmp_path / "smuggled.html", render(report_data).replace("<main>", f"<main>{smuggled}"))
    assert page.title != "ran"
    refused = [entry["message"] for entry in page.get_log("browser")]
    assert len([message for message in refused if "Content Security Policy" in message]) == 2


def test_hostile_names_are_shown_and_do_nothing(page: webdriver.Chrome, report_data: ReportData) -> None:
    assert page.execute_script("return document.scripts.length") == 0
    assert page.execute_script("return document.querySelectorAll('td b, td script').length") == 0
    cells = page.execute_script(
        "return [...document.querySelectorAll('#classes td:first-child')].map(e => e.innerText)"
    )
    assert cells == list(report_data.labels_per_class)
    assert page.title == f"{report_data.run}: how the run is going"


def test_the_contents_lead_to_every_section_and_stay_in_view(page: webdriver.Chrome) -> None:
    missing = page.execute_script(
        "return [...document.querySelectorAll('nav a')].filter(a => !document.querySelector(a.getAttribute('href')))"
    )
    assert missing == []
    page.execute_script("document.documentElement.style.scrollBehavior = 'auto'; window.scrollTo(0, 3000)")
    top = page.execute_script("return document.querySelector('nav').getBoundingClientRect().top")
    assert 0 <= top < 100


@pytest.mark.parametrize("size", SIZES)
def test_the_page_is_as_wide_as_the_window(page: webdriver.Chrome, size: str) -> None:
    page.set_window_size(*SIZES[size])
    assert page.execute_script("return document.documentElement.scrollWidth - window.innerWidth") <= 0


def test_a_page_without_figures_is_shown_without_an_error(
    browser: webdriver.Chrome, tmp_path: Path, bare_data: ReportData
) -> None:
    page = opened(browser, tmp_path / "bare.html", render(bare_data))
    assert page.get_log("browser") == []
    assert "Nothing was asked yet" in page.execute_script("return document.body.innerText")
