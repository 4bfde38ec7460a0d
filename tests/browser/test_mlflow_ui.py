"""MLflow's own pages over a small real sweep, in Chromium: what a user of `visionbench ui` comes to see.

The seeded view is kept in a form that is private to MLflow's version, so only the pages themselves can tell that it
holds. VISIONBENCH_SCREENSHOTS names a folder for a picture of each page.
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
        not (CHROMIUM and DRIVER), reason="no chromium with its driver here: apt-get install chromium chromium-driver"
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
    # a mouse, without which the charts' tool bars cover them
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
    """The browser, with waits for what is to be seen."""

    def __init__(self, driver, address):
        self.driver, self.address = driver, address

    def open(self):
        """The address that the command opens, with MLflow's assistant put away as a user would."""
        self.driver.get(self.address)
        self.all(f"{CARD} .js-plotly-plot")
        for button in self.now("[data-component-id='mlflow.assistant.chat_panel.close']"):
            button.click()

    def show_table(self):
        self.click("label:has(input[name='runs-view-mode'][value='TABLE'])")

    def now(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def until(self, condition, what):
        """What the condition returns, once that is true. A page that is being drawn again is asked again."""
        wait = WebDriverWait(self.driver, SECONDS, ignored_exceptions=REDRAWN)
        return wait.until(lambda _: condition(), f"not seen: {what}")

    def all(self, selector, text=""):
        """The elements that hold the text, once there are such."""
        return self.until(lambda: [one for one in self.now(selector) if text in one.text], f"{selector} {text}")

    def click(self, selector, text=""):
        self.until(lambda: self.all(selector, text)[0].click() or True, f"{selector} {text} to click")

    def says(self, *texts):
        """Wait until the page, read as a whole, holds these texts."""
        self.until(lambda: all(text in self.text() for text in texts), texts)

    def text(self):
        return self.driver.find_element(By.TAG_NAME, "body").text

    def keep(self, name):
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
    assert {link.text for link in page.all("a[href*='/runs/']")} >= NAMES

    def points():
        [card] = page.all(CARD, "throughput_images_per_s")[:1]
        return len(card.find_elements(By.CSS_SELECTOR, ".scatterlayer .point")) == len(NAMES) * len(SIZES)

    page.until(points, "a mark for each run and batch size")
    [card] = page.all(CARD, "throughput_images_per_s")[:1]
    assert all(f"{name} (throughput_images_per_s)" in card.text for name in NAMES)
    page.keep("charts")


def test_the_table_has_what_to_choose_by_in_its_first_columns(page):
    page.open()
    page.show_table()
    headings = page.until(lambda: headings if len(headings := of_columns(page)) >= 5 else None, "the seeded columns")
    assert headings[:5] == [
        "params.`task`",
        "tags.`visionbench.validity`",
        "metrics.`best_throughput_images_per_s`",
        "metrics.`lowest_latency_p50_ms`",
        "metrics.`highest_memory_process_peak_mib`",
    ]
    rows = page.all(".ag-center-cols-container .ag-row")
    speeds = [float(row.find_element(By.CSS_SELECTOR, f"[col-id='{headings[2]}']").text) for row in rows]
    assert speeds == sorted(speeds, reverse=True) and len(speeds) == len(NAMES)
    page.keep("table")


def test_two_runs_are_compared_side_by_side(page):
    page.open()
    page.show_table()
    for at in range(len(NAMES)):
        page.click(f".ag-pinned-left-cols-container [row-index='{at}'] .ag-checkbox-input")
    page.click("[data-testid='runs-compare-button']")
    page.says("Comparing 2 Runs", *NAMES, "best_throughput_images_per_s", "batch_sizes")
    page.keep("compare")


def test_a_run_has_its_note_its_metrics_and_the_report_of_its_sweep(page):
    page.open()
    page.click("a[href*='/runs/']", "clip_tiny · cpu · fp32")
    page.says("Description", "lowest p50", "process peak MiB", "best_throughput_images_per_s", "shapes")
    page.keep("run")
    page.click("[role='tab']", "Model metrics")
    page.all(".js-plotly-plot")
    page.keep("run_metrics")
    page.click("[role='tab']", "Artifacts")
    page.click("li", "throughput_latency.png")
    page.until(lambda: [image for image in page.now("img") if drawn(page, image)], "a figure")
    page.keep("run_figure")
    page.click("li", "report")
    page.click("li li", "report.html")
    [frame] = page.all("iframe")
    page.driver.switch_to.frame(frame)
    page.says(*NAMES)
    page.driver.switch_to.default_content()
    page.keep("run_report")


def of_columns(page):
    """The names of the table's columns right of the pinned ones, from left to right."""
    cells = page.now(".ag-center-cols-container [row-index='0'] .ag-cell")
    return [cell.get_attribute("col-id") for cell in sorted(cells, key=lambda cell: cell.location["x"])]


def drawn(page, image):
    """Whether a picture of a figure's size is loaded."""
    return page.driver.execute_script("return arguments[0].complete && arguments[0].naturalWidth > 300", image)
