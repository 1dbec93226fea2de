"""The report in a real browser: no error, pictures load, tables sort and copy, telephones can show it."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest
from report_cases import make_ablation
from tiny_runs import write_data

from dethead.ablation.report import build_report

pytestmark = pytest.mark.browser

THREE = "{a: {}, b: {class_scheme: {name: sigmoid_bce}}, slow: {training.epochs: 1}}"
TELEPHONE = 390  # CSS px

# Looks at the page as a person would, and leaves what it saw in the document.
PROBE = """
<script>
addEventListener("load", () => {
  const seen = {};
  const table = document.querySelector("#numbers table");
  const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent.trim());
  const press = (column) => table.tHead.rows[0].cells[column].querySelector("button").click();
  seen.images = [...document.images].map((image) => [image.complete, image.naturalWidth]);
  seen.charts = [...document.querySelectorAll("svg")]
    .filter((svg) => svg.checkVisibility()).map((svg) => [svg.clientWidth, svg.clientHeight]);
  seen.lines = [...document.querySelectorAll("path.line")].map((path) => path.getTotalLength());
  seen.markdown = asMarkdown(table);
  seen.before = names();
  press(2); seen.down = names(); seen.sort = table.tHead.rows[0].cells[2].getAttribute("aria-sort");
  press(2); seen.up = names();
  press(0); seen.byName = names();
  press(7); seen.unknown = names();
  const report = document.createElement("pre");
  report.id = "seen";
  report.textContent = JSON.stringify(seen);
  document.body.append(report);
});
</script>
"""
# A window cannot be as narrow as a telephone; a frame in it can.
FRAME = """<!doctype html><body><iframe src="{page}" style="width:{width}px;height:800px;border:0"></iframe>
<script>
addEventListener("load", () => {{
  const inner = document.querySelector("iframe").contentDocument;
  const texts = [...inner.querySelectorAll(".charts svg text")]
    .map((text) => text.getBoundingClientRect().height);
  const seen = {{
    wide: inner.documentElement.scrollWidth,
    smallest: Math.min(...texts),
    beside: [...inner.querySelectorAll("main *")].filter((part) => !part.closest(".scroll, svg, style")
      && part.getBoundingClientRect().right > {width} + 1).map((part) => part.outerHTML.slice(0, 80)),
  }};
  const report = document.createElement("pre");
  report.id = "seen";
  report.textContent = JSON.stringify(seen);
  document.body.append(report);
}});
</script>"""


@pytest.fixture(scope="module")
def browser():
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("needs Chromium (Debian: apt-get install chromium), which is not installed")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    data = write_data(folder / "data", train_images=4, val_images=14)
    shifts, states = {"b": 0.4, "slow": 0.2}, {"slow-seed1": "failed"}
    return build_report(make_ablation(folder, data, THREE, shifts=shifts, states=states), resamples=40)


@pytest.fixture(scope="module")
def opened(browser, report, tmp_path_factory):
    """What the probe saw, and what the console said."""
    page = tmp_path_factory.mktemp("page") / "probed.html"
    page.write_text(report.html.read_text().replace("</body>", f"{PROBE}</body>"))
    return look(browser, page)


def look(browser: str, page: Path) -> tuple[dict, list[str]]:
    """Open a page without a window; gives what it left of itself, and the lines of its console."""
    command = [
        browser,
        "--headless=new",
        "--no-sandbox",  # in containers there is none
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-extensions",
        "--allow-file-access-from-files",
        "--enable-logging=stderr",
        f"--user-data-dir={page.parent / 'profile'}",
        "--window-size=1280,900",
        "--virtual-time-budget=20000",
        "--dump-dom",
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, f"the page left nothing: {done.stdout[-500:]} {done.stderr[-2000:]}"
    return json.loads(unescape(found[1])), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_the_console_stays_silent(opened):
    assert opened[1] == []


def test_a_console_error_would_be_seen(browser, tmp_path):
    page = tmp_path / "broken.html"
    page.write_text('<!doctype html><pre id="seen">{}</pre><script>nothing.there</script>')
    assert "nothing is not defined" in look(browser, page)[1][0]


def test_every_picture_loads(opened):
    images = opened[0]["images"]
    assert len(images) >= 3
    assert all(complete and width > 0 for complete, width in images)


def test_every_chart_has_a_size_and_every_line_a_length(opened):
    seen = opened[0]
    assert len(seen["charts"]) > 10
    assert all(width > 100 and height > 10 for width, height in seen["charts"])
    assert len(seen["lines"]) > 10
    assert max(seen["lines"]) > 100


def test_a_click_sorts_numbers_from_the_largest_and_a_second_one_from_the_smallest(opened, report):
    means = {one["name"]: one["mean"]["AP"] for one in json.loads(report.json.read_text())["variants"]}
    order = sorted(means, key=lambda name: -means[name])
    seen = opened[0]
    assert [name.removesuffix(" (baseline)") for name in seen["down"]] == order
    assert seen["sort"] == "descending"
    assert seen["up"] == seen["down"][::-1]


def test_a_click_sorts_words_from_a(opened):
    assert opened[0]["byName"] == ["a (baseline)", "b", "slow"]


def test_unknown_numbers_keep_their_order(opened):
    assert opened[0]["unknown"] == opened[0]["byName"]


def test_a_table_copies_as_the_markdown_of_the_report(opened, report):
    table = report.markdown.read_text().split("## COCO numbers\n\n")[1].split("\n\n")[0]
    assert opened[0]["markdown"] == f"{table}\n"


def test_a_telephone_shows_all_of_it_without_scrolling_aside(browser, report, tmp_path):
    page = tmp_path / "telephone.html"
    page.write_text(FRAME.format(page=report.html.as_uri(), width=TELEPHONE))
    seen, console = look(browser, page)
    assert (seen["beside"], console) == ([], [])
    assert seen["wide"] <= TELEPHONE
    assert seen["smallest"] > 11  # px; the text of charts is not shrunk
