"""MLflow's pages of a small real sweep in Chromium, as a user of `visionbench ui` sees them.

The format of the seeded view is private to MLflow's version, so only the pages themselves show that MLflow reads it.
VISIONBENCH_SCREENSHOTS names a folder for a screenshot of each page.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from command_line import call
from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    NoSuchElementException,
    StaleElementReferenceException,
)
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from ui_server import served

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER),
        reason="chromium and its driver are not installed: apt-get install chromium chromium-driver",
    ),
]

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1600,1000",
    # a mouse: without it, the tool bars cover the charts
    "--blink-settings=primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4",
)
SECONDS = 60
REDRAWN = (ElementClickInterceptedException, NoSuchElementException, StaleElementReferenceException)
SIZES = (1, 2, 4)
SWEEP = (
    "model=clip_tiny,classifier_tiny",
    f"batch.sizes=[{','.join(map(str, SIZES))}]",
    "measure=quick",
    "measure.retries=0",
    "measure.warmup.calls=2",
    "measure.latency.calls=8",
    "measure.throughput.calls=5",
    "device.name=cpu",
    "device.threads=1",
    "data.options.samples=40",
)
NAMES = {"clip_tiny · cpu · fp32", "classifier_tiny · cpu · fp32"}
CARD = "[data-testid='experiment-view-compare-runs-card']"


class Page:
    """A page in the browser. Its methods wait until the content is visible."""

    def __init__(self, driver, address):
        self.driver, self.address = driver, address

    def open(self):
        """Open the address that the command prints, and close MLflow's assistant."""
        self.driver.get(self.address)
        self.find_all(f"{CARD} .js-plotly-plot")
        for button in self.find_now("[data-component-id='mlflow.assistant.chat_panel.close']"):
            button.click()

    def show_table(self):
        self.click("label:has(input[name='runs-view-mode'][value='TABLE'])")

    def find_now(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def until(self, condition, name):
        """Wait for a true value of the condition, and return it. Errors of a page that is redrawn are ignored."""
        wait = WebDriverWait(self.driver, SECONDS, ignored_exceptions=REDRAWN)
        return wait.until(lambda _: condition(), f"not visible: {name}")

    def find_all(self, selector, text=""):
        """Wait for elements that contain the text, and return them."""
        return self.until(lambda: [one for one in self.find_now(selector) if text in one.text], f"{selector} {text}")

    def click(self, selector, text=""):
        self.until(lambda: self.find_all(selector, text)[0].click() or True, f"{selector} {text} to click")

    def wait_for_texts(self, *texts):
        """Wait until the text of the page contains all of these texts."""
        self.until(lambda: all(text in self.text() for text in texts), texts)

    def text(self):
        return self.driver.find_element(By.TAG_NAME, "body").text

    def save_screenshot(self, name):
        if folder := os.environ.get("VISIONBENCH_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.driver.save_screenshot(str(Path(folder) / f"{name}.png"))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    work = tmp_path_factory.mktemp("ui")
    done = call(work, "run", "-m", *SWEEP, f"output_dir={work / 'outputs'}")
    assert done.returncode == 0, done.stderr
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={work / 'profile'}"):
        options.add_argument(flag)
    with pytest.MonkeyPatch.context() as patch, served(work / "outputs", work) as (_, address):
        patch.setenv("SE_OFFLINE", "true")
        driver = webdriver.Chrome(options, Service(DRIVER))
        try:
            yield Page(driver, address)
        finally:
            driver.quit()


def test_the_charts_have_a_curve_for_each_run(page):
    page.open()
    assert {link.text for link in page.find_all("a[href*='/runs/']")} >= NAMES

    def points():
        [card] = page.find_all(CARD, "throughput_images_per_s")[:1]
        return len(card.find_elements(By.CSS_SELECTOR, ".scatterlayer .point")) == len(NAMES) * len(SIZES)

    page.until(points, "a mark for each run and batch size")
    [card] = page.find_all(CARD, "throughput_images_per_s")[:1]
    assert all(f"{name} (throughput_images_per_s)" in card.text for name in NAMES)
    page.save_screenshot("charts")


def test_the_first_columns_of_the_table_are_those_of_the_seeded_view_and_sort_by_speed(page):
    page.open()
    page.show_table()
    headings = page.until(lambda: headings if len(headings := column_names(page)) >= 5 else None, "the seeded columns")
    assert headings[:5] == [
        "params.`task`",
        "tags.`visionbench.validity`",
        "metrics.`best_throughput_images_per_s`",
        "metrics.`lowest_latency_p50_ms`",
        "metrics.`highest_memory_process_peak_mib`",
    ]
    rows = page.find_all(".ag-center-cols-container .ag-row")
    speeds = [float(row.find_element(By.CSS_SELECTOR, f"[col-id='{headings[2]}']").text) for row in rows]
    assert speeds == sorted(speeds, reverse=True) and len(speeds) == len(NAMES)
    page.save_screenshot("table")


def test_two_runs_are_compared_side_by_side(page):
    page.open()
    page.show_table()
    for index in range(len(NAMES)):
        page.click(f".ag-pinned-left-cols-container [row-index='{index}'] .ag-checkbox-input")
    page.click("[data-testid='runs-compare-button']")
    page.wait_for_texts("Comparing 2 Runs", *NAMES, "best_throughput_images_per_s", "batch_sizes")
    page.save_screenshot("compare")


def test_a_run_has_its_note_its_metrics_and_the_report_of_its_sweep(page):
    page.open()
    page.click("a[href*='/runs/']", "clip_tiny · cpu · fp32")
    page.wait_for_texts("Description", "lowest p50", "process peak MiB", "best_throughput_images_per_s", "shapes")
    page.save_screenshot("run")
    page.click("[role='tab']", "Model metrics")
    page.find_all(".js-plotly-plot")
    page.save_screenshot("run_metrics")
    page.click("[role='tab']", "Artifacts")
    page.click("li", "throughput_latency.png")
    page.until(lambda: [image for image in page.find_now("img") if is_loaded(page, image)], "a figure")
    page.save_screenshot("run_figure")
    page.click("li", "report")
    page.click("li li", "report.html")
    [frame] = page.find_all("iframe")
    page.driver.switch_to.frame(frame)
    page.wait_for_texts(*NAMES)
    page.driver.switch_to.default_content()
    page.save_screenshot("run_report")


def column_names(page):
    """Return the names of the columns right of the pinned columns, from left to right."""
    cells = page.find_now(".ag-center-cols-container [row-index='0'] .ag-cell")
    return [cell.get_attribute("col-id") for cell in sorted(cells, key=lambda cell: cell.location["x"])]


def is_loaded(page, image):
    """Return whether an image of the size of a figure is loaded."""
    return page.driver.execute_script("return arguments[0].complete && arguments[0].naturalWidth > 300", image)
