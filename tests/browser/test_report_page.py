"""The report page in Chromium: on a phone, dark, printed, without JavaScript, and with sorted and filtered tables.

VISIONBENCH_SCREENSHOTS names a folder for a screenshot of each page.
"""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path

import chromium
import many_runs
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from visionbench.report.page import write_report

pytestmark = chromium.MARKS
SWEEPS = ("thirty", "tasks", "threads", "invalid", "failed")
PHONE, WIDE = 400, 1440


class Browser:
    """Chromium with the report of each sweep."""

    def __init__(self, driver, pages):
        self.driver, self.pages = driver, pages

    def open(self, sweep, width=WIDE, scheme="light", javascript=True):
        """Open the page of a sweep on a screen of this width, with this colour scheme."""
        phone = width == PHONE
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not javascript})
        self.driver.get(self.pages[sweep].as_uri())
        self._save_screenshot(f"report-{sweep}-{width}-{scheme}")

    def _save_screenshot(self, name):
        if folder := os.environ.get("VISIONBENCH_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.driver.save_screenshot(str(Path(folder) / f"{name}.png"))

    def run(self, script, *arguments):
        return self.driver.execute_script(f"return {script}", *arguments)

    def find(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def column(self, heading):
        """Return the visible cells of a column of the summary."""
        headings = [cell.text.split(" ↕")[0].strip() for cell in self.find("#summary ~ .wide th[scope='col']")]
        index = headings.index(heading)
        return self.run(
            "[...document.querySelector('table[data-tools]').tBodies[0].rows].filter(row => !row.hidden)"
            ".map(row => row.cells[arguments[0]].textContent)",
            index,
        )

    def click(self, heading):
        """Click the heading of a column of the summary, and return its `aria-sort`."""
        (button,) = [
            one
            for one in self.find("table[data-tools]")[0].find_elements(By.TAG_NAME, "button")
            if one.text.strip() == heading
        ]
        self.run("arguments[0].click()", button)
        return button.find_element(By.XPATH, "..").get_attribute("aria-sort")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    work = tmp_path_factory.mktemp("report")
    pages = {name: write_report(many_runs.SWEEPS[name](work / name), "en", work / name)[0] for name in SWEEPS}
    with chromium.started(work / "profile", "--hide-scrollbars") as driver:
        yield Browser(driver, pages)


@pytest.mark.parametrize("width", [PHONE, WIDE])
@pytest.mark.parametrize("sweep", SWEEPS)
def test_the_page_is_not_wider_than_the_screen(browser, sweep, width):
    browser.open(sweep, width)
    assert browser.run("document.documentElement.scrollWidth") == width
    outside = browser.run(
        "[...document.querySelectorAll('h1, h2, h3, p, li, dd, figure, svg, .wide, .tools *')].filter("
        "one => one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML.slice(0, 99))"
    )
    assert outside == []


def number(text):
    return float(re.match(r"[\d.,]+", text).group().replace(",", ""))


def test_a_click_on_a_heading_sorts_by_number_with_missing_numbers_last(browser):
    browser.open("thirty")
    assert browser.click("throughput") == "ascending"
    *speeds, missing = browser.column("throughput")
    assert missing == "–"
    assert [number(text) for text in speeds] == sorted(number(text) for text in speeds)
    assert max(number(text) for text in speeds) >= 1000
    assert browser.click("throughput") == "descending"
    *speeds, missing = browser.column("throughput")
    assert missing == "–"
    assert [number(text) for text in speeds] == sorted((number(text) for text in speeds), reverse=True)
    assert len(browser.find("th[aria-sort]")) == 1


def test_quality_is_sorted_by_its_value(browser):
    browser.open("tasks")
    browser.click("quality")
    values = [float(text.split()[-1]) for text in browser.column("quality") if text != "–"]
    assert values == sorted(values) and len(set(values)) > 1


def test_a_column_of_text_is_sorted_as_text_and_numbers_in_it_by_value(browser):
    browser.open("thirty")
    browser.click("model")
    models = browser.column("model")
    assert models == sorted(models)
    browser.open("threads")
    browser.click("threads")
    browser.click("threads")
    assert browser.column("threads")[::3] == ["5", "4", "3", "2", "1"]


def test_filters_and_search_hide_rows_and_the_number_of_rows_is_shown(browser):
    browser.open("threads")
    names = [label.text.splitlines()[0] for label in browser.find("form.tools")[0].find_elements(By.TAG_NAME, "label")]
    assert names == ["search", "threads", "batch", "verdict"]
    first = browser.find("form.tools")[0]
    Select(first.find_elements(By.TAG_NAME, "select")[0]).select_by_visible_text("3")
    assert browser.column("threads") == ["3"] * 3
    assert first.find_element(By.TAG_NAME, "output").text == "3 of 15 rows"
    first.find_element(By.TAG_NAME, "input").send_keys("51.73")
    assert browser.column("batch") == ["16"]
    assert first.find_element(By.TAG_NAME, "output").text == "1 of 15 rows"


def test_headings_are_reached_and_used_with_the_keyboard(browser):
    browser.open("threads")
    button = browser.find("table[data-tools] thead button")[0]
    browser.run("arguments[0].focus()", button)
    assert browser.driver.switch_to.active_element == button
    button.send_keys(" ")
    assert browser.find("th[aria-sort='ascending']")


def luminance(colour):
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3


@pytest.mark.parametrize("sweep", ["thirty", "threads"])
def test_page_and_figures_are_dark_if_the_system_is(browser, sweep):
    style = "getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    for scheme, dark in (("light", False), ("dark", True)):
        browser.open(sweep, scheme=scheme)
        assert (luminance(browser.run(style, "body", "backgroundColor")) < 60) == dark
        assert (luminance(browser.run(style, "thead th", "backgroundColor")) < 60) == dark
        assert (luminance(browser.run(style, "figure svg path", "fill")) < 60) == dark
        assert (luminance(browser.run(style, "figure svg text", "fill")) > 180) == dark


def test_without_javascript_all_rows_and_figures_are_there_and_no_controls(browser):
    try:
        browser.open("thirty", javascript=False)
        rows = browser.find("#summary ~ .wide")[0].find_elements(By.CSS_SELECTOR, "tbody tr")
        assert len(rows) == 90
        assert browser.find("figure svg") and not browser.find("form.tools") and not browser.find("thead button")
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_the_page_prints_in_light_colours_with_all_rows(browser):
    browser.open("thirty", scheme="dark")
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    style = "getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    assert luminance(browser.run(style, "body", "backgroundColor")) > 240
    assert browser.run(style, ".wide.long", "maxHeight") == "none"
    assert browser.run(style, "form.tools", "display") == "none"
    content = base64.b64decode(browser.driver.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert content.startswith(b"%PDF")
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_the_page_requests_nothing_and_has_no_error(browser):
    browser.open("tasks")
    assert browser.run("performance.getEntriesByType('resource').length") == 0
    assert [entry for entry in browser.driver.get_log("browser") if entry["level"] == "SEVERE"] == []
