"""The report in a real browser: nothing is fetched, every link leads somewhere, it can be read and used by all."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pytest

from repro import theory
from repro.pipeline import settings
from repro.pipeline.execution.making import compute
from repro.pipeline.presentation import report, verdicts
from repro.pipeline.store import Run
from repro.pipeline.system.progress import Progress

sync_api = pytest.importorskip("playwright.sync_api")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")

PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
SMALL = [
    *("scale=smoke", "device=cpu", "tracking.mode=disabled"),
    *("data.in_features=12", "data.out_features=10", "data.samples=80", "data.rank=6", "model.width=8"),
    *("training.steps=20", "dropout.block_size=[1,4]"),
]
EXPERIMENTS = {
    "rank_collapse": ["dropout.p=[0.5,0.9]"],
    "dropblock_objective": ["dropout.retain=0.8", "options.monte_carlo_masks=256"],
}


@pytest.fixture(scope="module")
def page_file(tmp_path_factory) -> Path:
    """A report of two small records and one experiment that has none, with a claim that fails among them."""
    folder = tmp_path_factory.mktemp("results")
    found = []
    for name in (*EXPERIMENTS, "dropconnect"):
        job = [f"experiment={name}", *(SMALL if name in EXPERIMENTS else SMALL[:3]), *EXPERIMENTS.get(name, [])]
        run = Run(settings.load([*job, f"results={folder}"]), f"python {name}")
        if name in EXPERIMENTS:
            run.write(compute(run.config, Progress("", quiet=True)), {"run": 1.0})
        found.append(run)
    ledger = verdicts.ledger(found)
    first = next(n for n, v in enumerate(ledger) if v.experiment == "dropblock_objective")
    caveat = replace(ledger[first].claim, caveat="made to fail, for the tests")
    ledger[first] = replace(ledger[first], claim=caveat, decision="fails", values=(4.0,), seeds=(0,), note="")
    return report.write(found, ledger, folder / "report.html")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # containers run as root
        yield browser
        browser.close()


class Opened:
    """A page, what it wrote on the console, and what it asked the network for."""

    def __init__(self, browser, file: Path, fragment: str = "", viewport=None, **options):
        self.page = browser.new_page(viewport=viewport or DESKTOP, **options)
        self.console: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.console.append(message.text))
        self.page.on("pageerror", lambda error: self.console.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri() + fragment)
        self.page.evaluate("document.querySelectorAll('img').forEach(image => { image.loading = 'eager' })")
        self.page.wait_for_function("[...document.images].every(image => image.complete)")

    @property
    def left_the_file(self) -> list[str]:
        own = self.page.url.partition("#")[0]
        return [url for url in self.requests if url.partition("#")[0] != own and not url.startswith("data:")]


@pytest.fixture
def opened(browser, page_file):
    pages = []

    def open_(fragment="", file=page_file, **options):
        pages.append(Opened(browser, file, fragment, **options))
        return pages[-1]

    yield open_
    for each in pages:
        each.page.close()


def edited(file: Path, before: str, after: str) -> Path:
    """A copy of the page beside it with one thing broken."""
    text = file.read_text(encoding="utf-8")
    assert before in text
    copy = file.with_name("broken.html")
    copy.write_text(text.replace(before, after), encoding="utf-8")
    return copy


def dead_links(opened: Opened) -> list[str]:
    dead = []
    for link in opened.page.evaluate("[...document.querySelectorAll('a[href]')].map(a => a.href)"):
        url = urlparse(link)
        if url.scheme != "file":
            dead.append(link)
        elif link.partition("#")[0] == opened.page.url.partition("#")[0]:
            if not opened.page.evaluate("id => document.getElementById(id) !== null", unquote(url.fragment)):
                dead.append(link)
        elif not Path(unquote(url.path)).exists():
            dead.append(link)
    return dead


def too_wide(opened: Opened) -> bool:
    return opened.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


def without_text(opened: Opened) -> int:
    return opened.page.evaluate("[...document.images].filter(image => image.alt.trim().length < 20).length")


def unseen(opened: Opened) -> int:
    return opened.page.evaluate("[...document.images].filter(image => !image.naturalWidth).length")


def lowest_contrast(opened: Opened) -> tuple[float, str]:
    """The smallest contrast of a text and what is behind it, after WCAG 2, and the text."""
    return tuple(
        opened.page.evaluate("""() => {
            const rgba = css => {
                const [r, g, b, a = 1] = css.match(/[\\d.]+/g).map(Number); return [r, g, b, a] };
            const luminance = ([r, g, b]) => [r, g, b].map(c => c / 255)
                .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
                .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
            const behind = element => {
                for (let e = element; e; e = e.parentElement) {
                    const color = rgba(getComputedStyle(e).backgroundColor);
                    if (color[3] === 1) return color;
                    if (color[3] > 0) throw new Error("half transparent: " + e.tagName);
                }
                throw new Error("no background") };
            document.querySelectorAll("details").forEach(it => { it.open = true });
            const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
            let worst = [Infinity, ""];
            while (walker.nextNode()) {
                const text = walker.currentNode.data.trim(), element = walker.currentNode.parentElement;
                if (!text || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
                const pair = [rgba(getComputedStyle(element).color), behind(element)].map(luminance);
                const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
                if (ratio < worst[0]) worst = [ratio, text];
            }
            return worst }""")
    )


def test_it_is_quiet_and_keeps_to_itself(opened, page_file):
    shown = opened()
    assert shown.console == []
    assert shown.left_the_file == []
    assert page_file.stat().st_size < 5e6
    broken = opened(file=edited(page_file, "</main>", "<img src='https://localhost:9/x.png' alt=''></main>"))
    assert broken.left_the_file
    assert broken.console


def test_every_link_leads_somewhere(opened, page_file):
    shown = opened()
    assert dead_links(shown) == []
    hrefs = re.findall(r'href="([^"]+)"', page_file.read_text(encoding="utf-8"))
    assert {href.rpartition("/")[2] for href in hrefs if href.startswith("runs/")} == {
        "",
        "config.yaml",
        "summary.json",
        *(path.name for path in page_file.parent.glob("runs/*/*/figures/*.pdf")),
    }
    assert len(dead_links(opened(file=edited(page_file, 'id="rank_collapse', 'id="rank_colapse')))) > 1
    assert len(dead_links(opened(file=edited(page_file, "config.yaml", "confg.yaml")))) == len(EXPERIMENTS)


def test_figures_are_shown_and_described(opened, page_file):
    shown = opened()
    assert shown.page.locator("figure img").count() >= 4
    assert (unseen(shown), without_text(shown)) == (0, 0)
    assert unseen(opened(file=edited(page_file, "data:image/webp;base64,", "data:image/webp;base64,x"))) > 0
    assert without_text(opened(file=edited(page_file, ' alt="', ' alt="" title="'))) > 0


@pytest.mark.parametrize("print_", [False, True])
def test_nothing_is_wider_than_a_phone(opened, page_file, print_):
    shown = opened(viewport=PHONE)
    if print_:
        shown.page.emulate_media(media="print")
    shown.page.evaluate("document.querySelectorAll('details').forEach(it => { it.open = true })")
    assert not too_wide(shown)
    assert too_wide(
        opened(
            viewport=PHONE,
            file=edited(page_file, "</main>", "<pre>" + 99 * "x" + "</pre><p>" + 99 * "x" + "</p></main>"),
        )
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(opened, page_file, scheme):
    ratio, text = lowest_contrast(opened(color_scheme=scheme))
    assert ratio >= 4.5, text
    pale = edited(page_file, "light-dark(#57606a, #a3acb8)", "light-dark(#8f98a2, #5a626c)")
    assert lowest_contrast(opened(color_scheme=scheme, file=pale))[0] < 4.5


def test_paper_is_white(opened):
    shown = opened(color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    assert shown.page.evaluate(background) != "rgb(255, 255, 255)"
    shown.page.emulate_media(media="print")
    assert shown.page.evaluate(background) == "rgb(255, 255, 255)"


def reached_by_tab(shown: Opened) -> list[str]:
    """The tag of each element that Tab stops at, once round the page; every summary is opened by Enter."""
    stops = []
    for _ in range(1000):
        shown.page.keyboard.press("Tab")
        tag = shown.page.evaluate("document.activeElement.tagName")
        if tag == "BODY" or shown.page.evaluate("document.activeElement.dataset.seen"):
            return stops
        shown.page.evaluate("document.activeElement.dataset.seen = 'yes'")
        stops.append(tag)
        if tag == "SUMMARY" and not shown.page.evaluate("document.activeElement.parentElement.open"):
            shown.page.keyboard.press("Enter")
    raise AssertionError("Tab never comes round")


def test_the_keyboard_reaches_and_opens_everything(opened, page_file):
    shown = opened()
    stops = reached_by_tab(shown)
    assert stops.count("SUMMARY") == shown.page.locator("details").count() > 5
    assert stops.count("A") == shown.page.locator("a[href]").count()
    assert shown.page.locator("details:not([open])").count() == 0
    deaf = opened(file=edited(page_file, "<summary>", '<summary tabindex="-1">'))
    assert reached_by_tab(deaf).count("SUMMARY") == 0


def test_what_fails_stands_at_the_top_and_opens(opened, page_file):
    fails = "#dropblock_objective.stochastic_is_deterministic"
    shown = opened()
    assert shown.page.locator("table.ledger a").first.get_attribute("href") == fails
    assert "2 fail, 12 not measured" in shown.page.locator(".papers").inner_text()
    claim = shown.page.locator(f'[id="{fails[1:]}"]')
    assert claim.get_attribute("open") is not None
    assert "made to fail, for the tests" in claim.inner_text()
    claim.evaluate("it => { it.open = false }")
    shown.page.click(f'table a[href="{fails}"]')
    shown.page.wait_for_function("id => document.getElementById(id).open", arg=fails[1:])
    held = "rank_collapse.effective_rank"
    assert opened(f"#{held}").page.evaluate("id => document.getElementById(id).open", held)
    without = edited(page_file, "hashchange", "hashchanged").read_text(encoding="utf-8").replace("open();", "")
    (page_file.with_name("broken.html")).write_text(without, encoding="utf-8")
    broken = opened(f"#{held}", file=page_file.with_name("broken.html"))
    assert not broken.page.evaluate("id => document.getElementById(id).open", held)


@pytest.mark.parametrize("size", [1, 3, 8, 16])
@pytest.mark.parametrize("p", [0.05, 0.5, 0.99])
def test_what_one_plays_with_is_the_closed_form(opened, size, p):
    page = opened().page
    values = [3.0, 2.5, 2.5, 1.0, 0.3, 0.0]
    page.fill("#play-values", ", ".join(map(str, values)))
    page.locator("#play-p").evaluate("(it, p) => { it.value = p; it.dispatchEvent(new Event('input')) }", p)
    page.locator("#play-r").evaluate("(it, r) => { it.value = r; it.dispatchEvent(new Event('input')) }", size)
    theirs = page.evaluate("([m, r, w]) => shrink(m, r, w)", [values, size, (1 - p) / p])
    ours = theory.shrink_singular_values(np.array(values), size, (1 - p) / p)
    np.testing.assert_allclose(theirs, ours, atol=1e-12)
    other = theory.shrink_singular_values(np.array(values), size, 1.1 * (1 - p) / p)
    assert np.abs(np.array(theirs) - np.asarray(other)).max() > 1e-4
    drawn = page.evaluate(
        "[...document.querySelectorAll('#play-bars .a')].map(bar => Number(bar.getAttribute('height')))"
    )
    np.testing.assert_allclose(drawn, np.asarray(ours) * 170 / values[0], atol=1e-9)
    assert page.locator("#play-words").inner_text().startswith(f"rank {(np.asarray(ours) > 1e-9).sum()} of 5")


def test_what_is_no_spectrum_is_said(opened):
    page = opened().page
    for text in ("", "three", "0 0", "1 NaN"):
        page.fill("#play-values", text)
        assert "are needed" in page.locator("#play-words").inner_text()
    page.fill("#play-values", "-2; 1\n0.5")
    assert "of 3" in page.locator("#play-words").inner_text()


def test_formulas_are_set(opened, page_file):
    page = opened().page
    assert page.locator("math").count() >= 20
    assert page.locator(".formula math").first.bounding_box()["height"] > 15
    assert page.locator("math merror").count() == 0


def test_print_opens_every_claim(opened):
    shown = opened()
    assert shown.page.locator("details:not([open])").count() > 0
    shown.page.pdf()
    assert shown.page.locator("details:not([open])").count() == 0
