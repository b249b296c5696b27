"""The page in a headless Chromium: sorting, filtering, opening a run, by keyboard and on a phone, without a network."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select

from analysis.report import report
from tests.analysis.factory import COMPLETION, name_of, record, write_failure, write_sweep

DRIVER = shutil.which("chromedriver")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (DRIVER and BROWSER), reason="needs a browser: apt-get install chromium chromium-driver, or its like"
    ),
]
EVIL = "<script>document.title='owned'</script>"


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of runs of two families and two granularities, a run that failed, and a pair with a hostile name."""
    sweep = tmp_path_factory.mktemp("page") / "sweep"
    done = [
        record("low", "one", hybrid=0.5, found=3),
        record("high", "one", hybrid=0.95, found=1),
        record("middle", "two", hybrid=0.7, found=2),
        record("middle", "two", hybrid=0.6, granularity="layer", units_found=["layers.4"]),
        record("evil", EVIL, hybrid=0.8),
    ]
    write_sweep(sweep, done, [record("broken", "two")])
    write_failure(sweep, record("broken", "two"), "out of memory")
    line = {"weights": "w", "prompt": "harmful/0", "completion": COMPLETION, "tokens": 3}
    for run in done:
        for subject in ("student", "hybrid", "teacher"):
            answers = sweep / name_of(run) / "generations" / f"{subject}-report.jsonl"
            answers.write_text(json.dumps(line) + "\n")
    return report([sweep], Console(file=io.StringIO()), page_alone=True, answers=True)[-1]


@pytest.fixture
def page(browser: webdriver.Chrome, file: Path) -> Iterator[webdriver.Chrome]:
    """The page, freshly opened. After the test it must not have logged anything, nor asked for anything but itself."""
    show(browser, file)
    yield browser
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert {url.partition("#")[0] for url in sent} <= {f"file://{file}", "data:,", "about:blank"}


def show(browser: webdriver.Chrome, file: Path, width: int = 1280, fragment: str = "") -> None:
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get("about:blank")
    browser.get(f"file://{file}{fragment}")


def rows(browser: webdriver.Chrome, table: str = "runs") -> list[str]:
    """The first cells of the rows that are visible."""
    found = browser.find_elements(By.CSS_SELECTOR, f"#table-{table} tbody tr th:first-child")
    return [cell.text.removesuffix(" †") for cell in found if cell.is_displayed()]


def heading(browser: webdriver.Chrome, name: str) -> WebElement:
    found = browser.find_elements(By.CSS_SELECTOR, "#table-runs thead th")
    return next(cell for cell in found if cell.text.replace("\n", " ").startswith(name))


def press(browser: webdriver.Chrome, element: WebElement, *keys: str) -> None:
    browser.execute_script("arguments[0].focus()", element)
    browser.switch_to.active_element.send_keys(*keys)


def opened(browser: webdriver.Chrome) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, "dialog[open]")


def test_a_heading_sorts_by_click_and_by_key(page: webdriver.Chrome) -> None:
    assert rows(page) == ["low", "high", "middle", "middle", "evil", "broken"]
    button = heading(page, "DSR hybrid").find_element(By.TAG_NAME, "button")
    button.click()
    assert rows(page) == ["low", "middle", "middle", "evil", "high", "broken"]
    assert heading(page, "DSR hybrid").get_attribute("aria-sort") == "ascending"
    press(page, button, Keys.ENTER)
    assert rows(page) == ["high", "evil", "middle", "middle", "low", "broken"]  # a gap stays last
    press(page, heading(page, "pair").find_element(By.TAG_NAME, "button"), Keys.SPACE)
    assert rows(page) == ["broken", "evil", "high", "low", "middle", "middle"]
    assert heading(page, "DSR hybrid").get_attribute("aria-sort") is None


def test_means_stay_below_the_runs_when_a_table_is_sorted(page: webdriver.Chrome) -> None:
    before = rows(page, "main")
    page.find_element(By.CSS_SELECTOR, "#table-main thead button").click()
    assert rows(page, "main")[0] == "broken"
    assert rows(page, "main")[6:] == before[6:]
    assert before[-1].startswith("paper")


def test_filters_hide_rows_of_all_tables(page: webdriver.Chrome) -> None:
    form = page.find_element(By.ID, "filter")
    Select(form.find_element(By.NAME, "family")).select_by_visible_text("two")
    assert rows(page) == ["middle", "middle", "broken"]
    assert "low" not in rows(page, "comparisons")
    Select(form.find_element(By.NAME, "granularity")).select_by_visible_text("layer")
    assert rows(page) == ["middle"]
    assert form.find_element(By.ID, "shown").text == "1 of 6 runs"
    form.find_element(By.CSS_SELECTOR, "button[type=reset]").click()
    assert len(rows(page)) == 6
    form.find_element(By.NAME, "text").send_keys("layers.2 LOW")  # words of units, pairs, states, in any case
    assert rows(page) == ["low"]


def test_a_run_opens_by_key_shows_its_units_and_gives_the_focus_back(page: webdriver.Chrome) -> None:
    button = page.find_element(By.CSS_SELECTOR, "#table-runs button.open")
    press(page, button, Keys.ENTER)
    dialog = opened(page)
    assert "low · mlp · ddmin" in dialog.text
    found = dialog.find_elements(By.CSS_SELECTOR, ".map td.found")
    assert len(found) == 3 * 3  # gate, up and down projection of three layers
    assert "layers.2.mlp; without it at most 10.0 %" in [cell.get_attribute("title") for cell in found]
    assert "Each unit is needed" in dialog.text
    assert "20 queries" in dialog.text
    press(page, dialog.find_element(By.XPATH, ".//button[contains(., 'next')]"), Keys.ENTER)
    assert "high · mlp" in opened(page).text
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not page.find_elements(By.CSS_SELECTOR, "dialog[open]")
    assert page.switch_to.active_element == button


def test_a_run_has_an_address(page: webdriver.Chrome, file: Path) -> None:
    show(page, file, fragment=f"#run-{record('middle').identity[:8]}")
    assert "middle" in opened(page).text


def test_a_run_that_failed_says_why(page: webdriver.Chrome) -> None:
    page.find_elements(By.CSS_SELECTOR, "#table-runs button.open")[5].click()
    assert "This run is failed: search: out of memory" in opened(page).text


def test_answers_are_collapsed_and_blurred_until_asked_for(page: webdriver.Chrome) -> None:
    page.find_element(By.CSS_SELECTOR, "#table-runs button.open").click()
    answers = opened(page).find_element(By.XPATH, ".//details[contains(summary, 'answers')]")
    text = answers.find_element(By.CLASS_NAME, "answer-text")
    assert not text.is_displayed()
    answers.find_element(By.TAG_NAME, "summary").click()
    assert text.text == COMPLETION
    assert "blur" in text.value_of_css_property("filter")
    answers.find_element(By.TAG_NAME, "button").click()
    assert text.value_of_css_property("filter") == "none"


def test_a_hostile_name_is_text(page: webdriver.Chrome) -> None:
    assert page.title == "DAPA report: sweep"
    page.find_elements(By.CSS_SELECTOR, "#table-runs button.open")[4].click()
    options = [option.text for option in Select(page.find_element(By.NAME, "family")).options]
    assert EVIL in options
    assert page.title == "DAPA report: sweep"


def test_nothing_is_wider_than_a_phone(page: webdriver.Chrome, file: Path) -> None:
    show(page, file, width=390)
    width: Any = "return document.documentElement.scrollWidth"
    assert page.execute_script(width) <= 390
    page.find_element(By.CSS_SELECTOR, "#table-runs button.open").click()
    assert page.execute_script(width) <= 390
    assert page.execute_script("return arguments[0].scrollWidth <= 390", opened(page))


def test_tables_and_headings_can_be_read_aloud(page: webdriver.Chrome) -> None:
    page.find_element(By.CSS_SELECTOR, "#table-runs button.open").click()
    for table in page.find_elements(By.TAG_NAME, "table"):
        assert table.find_element(By.TAG_NAME, "caption").get_attribute("textContent")
        assert not table.find_elements(By.CSS_SELECTOR, "th:not([scope])")
    levels = [int(h.tag_name[1]) for h in page.find_elements(By.CSS_SELECTOR, "main :is(h2, h3, h4)")]
    assert all(after <= before + 1 for before, after in zip([1, *levels], levels, strict=False))
