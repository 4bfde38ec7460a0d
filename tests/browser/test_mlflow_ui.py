"""MLflow's pages of a small real sweep in Chromium, as a user of `visionbench ui` sees them.

The format of the seeded view is private to MLflow's version, so only the pages themselves show that MLflow reads it.
VISIONBENCH_SCREENSHOTS names a folder for a screenshot of each page.
"""

from __future__ import annotations

import os
from pathlib import Path

import chromium
import pytest
from command_line import call
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    NoSuchElementException,
    StaleElementReferenceException,
)
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from ui_server import served

pytestmark = chromium.MARKS
FLAGS = (
    # a mouse: without it, the tool bars cover the charts
    "--blink-settings=primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4",
)
SECONDS = 60
REDRAWN = (ElementClickInterceptedException, NoSuchElementException, StaleElementReferenceException)
SIZES = (1, 2, 4)
MODELS = ("clip_tiny", "classifier_tiny")
THREADS = (1, 2)
SWEEP = (
    f"model={','.join(MODELS)}",
    f"device.threads={','.join(map(str, THREADS))}",
    f"batch.sizes=[{','.join(map(str, SIZES))}]",
    "measure=quick",
    "measure.retries=0",
    "measure.warmup.calls=2",
    "measure.latency.calls=8",
    "measure.throughput.calls=5",
    "device.name=cpu",
    "data.options.samples=40",
)
NAMES = {f"threads {threads} · {model} · cpu · fp32" for model in MODELS for threads in THREADS}
CARD = "[data-testid='experiment-view-compare-runs-card']"
CLOSE_ASSISTANT = "[data-component-id='mlflow.assistant.chat_panel.close']"
OPEN, CLOSED = "open", "closed"
SCREENS = ((1440, 900), (1920, 1080))
FIRST_TITLES = ["p50 ms", "img/s"]
TITLES = {
    *FIRST_TITLES,
    *("texts/s", "process MiB", "best img/s", "lowest p50 ms", "weights MiB"),
    *("img/s vs. R@1", "t→i R@1", "i→t R@1", "img/s vs. top-1", "top-1", "top-5"),
}
HEADLINES = [
    "best_throughput_images_per_s",
    "lowest_latency_p50_ms",
    "highest_memory_process_peak_mib",
    "recall_t2i_at_1_fraction",
    "classification_top_1_fraction",
    "recall_i2t_at_1_fraction",
    "classification_top_5_fraction",
]
READ_CARDS = """return [...document.querySelectorAll(arguments[0])].map(card => {
    const title = card.querySelector("h4"), place = card.getBoundingClientRect();
    return {title: title.textContent, complete: title.scrollWidth <= title.clientWidth, x: place.x, y: place.y};
})"""
SCROLL_CARDS = """let box = document.querySelector(arguments[0]);
while (box && !(box.scrollHeight > box.clientHeight && getComputedStyle(box).overflowY === "auto"))
    box = box.parentElement;
box?.scrollBy(0, 200)"""
READ_VISIBLE_TEXT = """const text = document.createTreeWalker(arguments[0], NodeFilter.SHOW_TEXT).nextNode();
const ellipsis = 16, range = document.createRange();
const end = count => { range.setStart(text, 0); range.setEnd(text, count); return range.getBoundingClientRect().right };
let box = text.parentElement;
while (getComputedStyle(box).overflowX === "visible") box = box.parentElement;
const edge = box.getBoundingClientRect().right;
let count = text.data.length;
if (end(count) > edge + 1) while (count && end(count) > edge - ellipsis) count--;
return text.data.slice(0, count)"""
by_screen = pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: f"{screen[0]}x{screen[1]}")
by_assistant = pytest.mark.parametrize("assistant", [OPEN, CLOSED], ids=lambda state: f"assistant_{state}")


class Page:
    """A page in the browser. Its methods wait until the content is visible."""

    def __init__(self, driver, address):
        self.driver, self.address = driver, address

    def open(self, assistant=CLOSED, screen=SCREENS[0]):
        """Open the address that the command prints as a new visitor, for whom MLflow opens its assistant.

        With `assistant=CLOSED`, close the assistant.
        """
        width, height = screen
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        origin = {"origin": self.address.partition("/#")[0], "storageTypes": "all"}
        self.driver.get("about:blank")
        self.driver.execute_cdp_cmd("Storage.clearDataForOrigin", origin)
        self.driver.get(self.address)
        self.find_all(f"{CARD} .js-plotly-plot")
        self.find_all(CLOSE_ASSISTANT)
        if assistant == CLOSED:
            self.click(CLOSE_ASSISTANT)
            self.until(lambda: not self.find_now(CLOSE_ASSISTANT), "the assistant closed")

    def show_table(self):
        self.click("label:has(input[name='runs-view-mode'][value='TABLE'])")

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

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
    with served(work / "outputs", work) as (_, address), chromium.started(work / "profile", *FLAGS) as driver:
        yield Page(driver, address)


def test_the_charts_have_a_curve_for_each_run(page):
    page.open()
    assert {link.text for link in page.find_all("a[href*='/runs/']")} >= NAMES

    def points():
        [card] = page.find_all(CARD, "throughput_images_per_s")[:1]
        return len(card.find_elements(By.CSS_SELECTOR, ".scatterlayer .point")) == len(NAMES) * len(SIZES)

    page.until(points, "a mark for each run and batch size")
    [card] = page.find_all(CARD, "throughput_images_per_s")[:1]
    assert all(f"{name} (throughput_images_per_s)" in card.text for name in NAMES)


@by_screen
@by_assistant
def test_two_charts_are_side_by_side_and_all_titles_are_complete(page, assistant, screen):
    page.open(assistant, screen)
    first = page.until(lambda: cards[:2] if len(cards := page.run(READ_CARDS, CARD)) >= 2 else None, "two charts")
    page.save_screenshot(f"charts_{screen[0]}x{screen[1]}_assistant_{assistant}")
    assert [card["title"] for card in first] == FIRST_TITLES
    assert first[0]["y"] == first[1]["y"] and first[0]["x"] < first[1]["x"]
    complete = {}

    def scroll_through():
        complete.update({card["title"]: card["complete"] for card in page.run(READ_CARDS, CARD)})
        page.run(SCROLL_CARDS, CARD)
        return set(complete) >= TITLES

    page.until(scroll_through, TITLES)
    assert [title for title in complete if not complete[title]] == []


@by_screen
@by_assistant
def test_the_visible_parts_of_names_belong_to_one_run_each(page, assistant, screen):
    page.open(assistant, screen)
    page.until(lambda: len(page.find_now("a[href*='/runs/']")) == len(NAMES), "the list beside the charts")
    check_names(page, page.find_now("a[href*='/runs/']"))
    legend = page.until(lambda: find_legend(page, "throughput_images_per_s"), "the legend")
    check_names(page, legend)
    page.show_table()
    rows = ".ag-pinned-left-cols-container a[href*='/runs/']"
    page.until(lambda: len(page.find_now(rows)) == len(NAMES), "the rows of the table")
    page.until(lambda: len(column_names(page)) >= 4, "the seeded columns")
    page.save_screenshot(f"table_{screen[0]}x{screen[1]}_assistant_{assistant}")
    check_names(page, page.find_now(rows))
    [threads] = page.find_now(".ag-center-cols-container [row-index='0'] [col-id='params.`device.threads`']")
    [table] = page.find_now(".ag-center-cols-viewport")
    assert threads.rect["x"] + threads.rect["width"] <= table.rect["x"] + table.rect["width"]


def test_the_first_columns_of_the_table_are_those_of_the_seeded_view_and_sort_by_speed(page):
    page.open(screen=SCREENS[1])
    page.show_table()
    headings = page.until(lambda: headings if len(headings := column_names(page)) >= 8 else None, "the seeded columns")
    assert headings[:8] == [
        "params.`model`",
        "params.`device`",
        "params.`precision`",
        "params.`device.threads`",
        "params.`data`",
        "tags.`visionbench.validity`",
        "params.`task`",
        "metrics.`best_throughput_images_per_s`",
    ]
    rows = page.find_all(".ag-center-cols-container .ag-row")
    speeds = [float(row.find_element(By.CSS_SELECTOR, f"[col-id='{headings[7]}']").text) for row in rows]
    assert speeds == sorted(speeds, reverse=True) and len(speeds) == len(NAMES)


def test_two_runs_are_compared_side_by_side(page):
    page.open()
    page.show_table()
    for index in range(2):
        page.click(f".ag-pinned-left-cols-container [row-index='{index}'] .ag-checkbox-input")
    page.click("[data-testid='runs-compare-button']")
    page.wait_for_texts("Comparing 2 Runs", "best_throughput_images_per_s", "batch_sizes", "device.threads")
    page.save_screenshot("compare")


@by_assistant
def test_the_metrics_of_a_run_begin_with_the_headlines(page, assistant):
    page.open(assistant)
    page.click("a[href*='/runs/']", f"threads {THREADS[0]} · {MODELS[0]}")
    page.wait_for_texts("Description", "lowest p50", "best_throughput_images_per_s")
    links = page.until(lambda: page.find_now("a[href$='/model-metrics']"), "the metrics")
    names = [page.run("return arguments[0].textContent", link) for link in links]
    assert [name for name in names if name in HEADLINES] == HEADLINES
    assert max(map(names.index, HEADLINES)) < len(HEADLINES) + 2  # two batch sizes are among them
    page.save_screenshot(f"run_assistant_{assistant}")


def test_a_run_has_its_note_its_metrics_and_the_report_of_its_sweep(page):
    page.open()
    page.click("a[href*='/runs/']", f"threads {THREADS[0]} · {MODELS[0]}")
    page.wait_for_texts("Description", "lowest p50", "process peak MiB", "best_throughput_images_per_s", "shapes")
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
    page.wait_for_texts("threads", *MODELS)
    page.driver.switch_to.default_content()
    page.save_screenshot("run_report")


def check_names(page, elements):
    """Assert that the visible part of each element's text is the beginning of the name of one run only."""
    visible = [page.run(READ_VISIBLE_TEXT, element) for element in elements]
    names = [[name for name in NAMES if name.startswith(text) or text.startswith(name)] for text in visible]
    assert sorted(names) == sorted([name] for name in NAMES), visible


def find_legend(page, metric):
    """Return the entries of the legends of a metric's charts whose text is in the page."""
    [card] = [card for card in page.find_now(CARD) if f"({metric})" in card.text][:1]
    return card.find_elements(By.XPATH, f".//*[not(*)][contains(text(), '({metric})')]")


def column_names(page):
    """Return the names of the columns right of the pinned columns, from left to right."""
    cells = page.find_now(".ag-center-cols-container [row-index='0'] .ag-cell")
    return [cell.get_attribute("col-id") for cell in sorted(cells, key=lambda cell: cell.location["x"])]


def is_loaded(page, image):
    """Return whether an image of the size of a figure is loaded."""
    return page.run("return arguments[0].complete && arguments[0].naturalWidth > 300", image)
