"""The docs page as people use it: a key is entered, every call is opened and executed, in a real Chromium.

The browser can reach 127.0.0.1 only, and what it asks for is looked at: the page needs no internet at all.
"""

import gzip
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.conftest import Database
from tests.http.documented import calls, success
from tests.launcher import Server, free_port

CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]

# As long as for all that is done; the page is drawn by one processor of those that the other tests use as well.
expect.set_options(timeout=30_000)

pytestmark = [pytest.mark.browser, pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium")]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser with nothing in it."""
    with sync_playwright() as playwright:
        # Chromium keeps its sandbox from root.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, chromium_sandbox=False)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def tab(chromium: Browser) -> Page:
    """The window of all these tests: in a new one Chromium would compile Swagger UI anew, which takes a second."""
    return chromium.new_page()


@pytest.fixture(scope="module")
def port() -> int:
    """The port of all these tests: what was compiled is known by its URL."""
    return free_port()


@pytest.fixture
def serve(run_server: Callable[..., Server], db: Database, port: int) -> Callable[..., str]:
    """Run the service on an empty database that has just been swept; its URL."""
    db.rows("call sweep()")
    return lambda **settings: str(run_server(port=port, **settings).url)


class Docs:
    """The docs page in a browser, with its requests and its messages."""

    def __init__(self, page: Page) -> None:
        """Look at this window."""
        self.page = page
        self.asked: list[str] = []
        self.complaints: list[str] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Keep what is asked for and complained of meanwhile; then forget what the window was told to keep."""
        listeners: dict[Any, Callable[[Any], None]] = {
            "request": lambda request: self.asked.append(request.url),
            "console": lambda message: self.complaints.append(message.text),
            "pageerror": lambda error: self.complaints.append(str(error)),
        }
        for event, listener in listeners.items():
            self.page.on(event, listener)
        try:
            yield
        finally:
            for event, listener in listeners.items():
                self.page.remove_listener(event, listener)
            self.page.evaluate("sessionStorage.clear(), localStorage.clear()")

    def visit(self, url: str) -> None:
        """Open the page."""
        self.page.goto(f"{url}/docs")
        expect(self.page.locator(".opblock").first).to_be_visible()

    def enter(self, key: str) -> None:
        """Enter a key by Authorize, in the place of the one before."""
        self.page.locator(".btn.authorize").click()
        if (logout := self.page.get_by_role("button", name="Remove authorization")).count():
            logout.click()
        # The cursor is there; at once, since the page is drawn anew for each letter that is typed.
        self.page.keyboard.insert_text(key)
        self.page.get_by_role("button", name="Apply credentials").click()
        self.page.locator(".auth-wrapper .btn-done").first.click()

    def open(self, operation: dict[str, Any]) -> Locator:
        """Open a call."""
        block = self.block(operation)
        block.locator(".opblock-summary-control").click()
        expect(block.locator(".execute")).to_be_visible()
        return block

    def show(self, operation: dict[str, Any], is_open: bool) -> None:
        """Open or close it without the animation, which takes a second."""
        thing = ["operations", operation["tags"][0], operation["operationId"]]
        self.page.evaluate("([thing, open]) => { ui.layoutActions.show(thing, open) }", [thing, is_open])

    def block(self, operation: dict[str, Any]) -> Locator:
        """The part of the page that a call has."""
        return self.page.locator(f"#operations-{operation['tags'][0]}-{operation['operationId']}")

    def execute(self, block: Locator, status: int) -> str:
        """Press Execute; the page then shows this status, and the body that came."""
        with self.page.expect_response(lambda response: "/docs" not in response.url) as caught:
            block.locator(".execute").click()
        response = caught.value
        assert response.status == status, (response.url, response.text())
        answer = block.locator(".live-responses-table .response")
        expect(answer.locator(".response-col_status")).to_contain_text(str(status))
        if status == 204:
            return ""
        body = response.text()
        if "content-disposition" in response.headers:
            expect(answer.get_by_text("Download file")).to_be_visible()
            return body
        word = next(w for w in body.replace('"', " ").replace(",", " ").split() if w.isalnum())
        expect(answer.locator(".highlight-code, .microlight").first).to_contain_text(word)
        return body


@pytest.fixture
def window(tab: Page) -> Iterator[Docs]:
    """The window, in which nothing is open yet; in the end it has asked no other server, and logged no error."""
    tab.set_viewport_size({"width": 1280, "height": 720})
    docs = Docs(tab)
    with docs.watched():
        yield docs
    assert {httpx.URL(asked).host for asked in docs.asked if not asked.startswith("data:")} == {"127.0.0.1"}
    assert docs.complaints == []


@pytest.fixture
def url(serve: Callable[..., str]) -> str:
    """Where the service runs."""
    return serve()


@pytest.fixture
def docs(window: Docs, url: str) -> Docs:
    """The page in the window."""
    window.visit(url)
    return window


def test_every_call_works_as_its_examples_stand(docs: Docs, url: str, db: Database) -> None:
    docs.enter(db.value("select create_api_key('admin', 'admin')"))
    description = httpx.get(f"{url}/openapi.json").json()
    link = ""
    for _, _, operation in calls(description):
        # Alone on the page, it is drawn faster.
        docs.page.evaluate("word => { ui.layoutActions.updateFilter(word) }", operation["summary"])
        docs.show(operation, True)
        block = docs.block(operation)
        status, answers = success(operation)
        if operation["operationId"] == "revokeReport":
            # Those about a user end when the user is forgotten.
            link = db.value("select id from create_report_link('2026-11')") + ".csv"
        if operation["operationId"] in ("getReport", "revokeReport"):
            block.locator("[data-param-name=file_name] input").fill(link.rpartition("/")[2])
        bodies = [
            example
            for body in operation.get("requestBody", {}).get("content", {}).values()
            for example in body["examples"]
        ]
        for number, body in enumerate(bodies or [""]):
            if number:
                block.locator(".opblock-section-request-body .examples-select-element").select_option(body)
            answer = docs.execute(block, status)
        if operation["operationId"] == "getReport":
            with docs.page.expect_download() as download:
                docs.page.evaluate("link => { location.href = link }", link)
            assert download.value.path().read_text() == answer.replace("\r", "")
            assert answer.startswith("1000;AVITO_VOICE_MESSAGES;")
        if operation["operationId"] == "createReport":
            link = httpx.Response(200, content=answer).json()["url"]
        for media_type in list(answers)[1:]:
            # The first is chosen already.
            block.locator(".responses-wrapper .content-type").first.select_option(media_type)
            assert docs.execute(block, status).startswith("user_id\n1000\n1002\n")
        docs.show(operation, False)
    assert db.segments_of(1000) == []


def test_a_wrong_key_is_told_so(docs: Docs, url: str, db: Database) -> None:
    operation = httpx.get(f"{url}/openapi.json").json()["paths"]["/v1/segments"]["get"]
    block = docs.open(operation)
    for key in (None, "wrong"):
        if key:
            docs.enter(key)
        assert '"code":"unauthorized"' in docs.execute(block, 401)
    docs.enter(db.value("select create_api_key('shop', 'reader')"))
    assert docs.execute(block, 200).startswith('{"segments":[]')
    block.locator(".opblock-summary-control").click()
    expect(block.locator(".execute")).not_to_be_visible()
    # Chromium logs each of them by itself.
    refused = [complaint for complaint in docs.complaints if "401 (Unauthorized)" in complaint]
    assert len(refused) == 2
    docs.complaints = [complaint for complaint in docs.complaints if complaint not in refused]


def test_the_introduction_leads_to_the_first_calls(docs: Docs) -> None:
    links = docs.page.locator(".info a[href^='#/']")
    assert links.count() >= 3
    for link in links.all():
        group, call = str(link.get_attribute("href")).split("/")[1:]
        link.click()
        expect(docs.page.locator(f"#operations-{group}-{call} .execute")).to_be_visible()
    assert docs.page.title()
    docs.page.goto(str(docs.page.url).partition("#")[0] + "/errors#not_found")
    expect(docs.page.locator("#not_found")).to_be_visible()


def test_a_key_stays_for_this_tab_and_no_longer(docs: Docs, db: Database) -> None:
    docs.page.evaluate("localStorage.setItem('authorized', 'of an earlier release')")
    docs.enter(db.value("select create_api_key('shop', 'reader')"))
    docs.page.reload()
    operation = {"tags": ["Segments"], "operationId": "listSegments"}
    docs.execute(docs.open(operation), 200)
    assert docs.page.evaluate("localStorage.length") == 0
    docs.page.locator(".btn.authorize").click()
    docs.page.get_by_role("button", name="Remove authorization").click()
    assert "shop" not in docs.page.evaluate("sessionStorage.getItem('segmentation-authorized')")


def test_calls_are_found_by_a_word_of_their_path_or_summary(docs: Docs) -> None:
    box = docs.page.get_by_placeholder("Filter")
    for word, number in (("rollout", 3), ("why a user is", 1), ("DELETION", 4), ("nothing at all", 0)):
        box.fill(word)
        expect(docs.page.locator(".opblock")).to_have_count(number)


def test_an_import_takes_a_file(docs: Docs, db: Database, tmp_path: Path) -> None:
    db.rows("select create_segment('AVITO_VOICE_MESSAGES')")
    docs.enter(db.value("select create_api_key('shop', 'editor')"))
    block = docs.open({"tags": ["Members"], "operationId": "importMembers"})
    for name, content in (("ids.csv", b"1\n2\n3\n"), ("ids.csv.gz", gzip.compress(b"2\n3\n4\n5\n"))):
        file = tmp_path / name
        file.write_bytes(content)
        block.get_by_label("From a file").set_input_files(file)
        expect(block.locator("textarea")).to_have_value(re.compile("3\n"))
        docs.execute(block, 200)
    assert db.column("select user_id from segment_members('AVITO_VOICE_MESSAGES')") == [1, 2, 3, 4, 5]


def test_the_link_of_a_report_can_be_clicked(docs: Docs, db: Database) -> None:
    docs.enter(db.value("select create_api_key('shop', 'editor')"))
    block = docs.open({"tags": ["Reports"], "operationId": "createReport"})
    docs.execute(block, 201)
    with docs.page.expect_download() as download:
        block.get_by_role("link", name=re.compile("Open http")).click()
    assert download.value.path().read_text() == ""


def test_the_code_shown_for_a_call_does_it(docs: Docs, db: Database) -> None:
    docs.enter(db.value("select create_api_key('shop', 'admin')"))
    block = docs.open({"tags": ["Segments"], "operationId": "createSegment"})
    docs.execute(block, 201)

    def code(language: str) -> str:
        block.locator(".request-snippets").get_by_text(language, exact=True).click()
        return block.locator(".request-snippets .microlight").inner_text()

    def anew() -> None:
        db.rows("select delete_segment('AVITO_VOICE_MESSAGES')")

    anew()
    done = subprocess.run([sys.executable, "-c", code("Python")], capture_output=True, text=True)
    assert '"salt"' in done.stdout, done.stderr
    anew()
    docs.page.evaluate(f"async () => {{ {code('JavaScript')} }}")
    assert docs.complaints.pop().startswith("201 {")
    anew()
    done = subprocess.run(["bash", "-c", code("curl")], capture_output=True, text=True)
    assert '"salt"' in done.stdout, done.stderr


def test_it_works_under_a_path(serve: Callable[..., str], db: Database, window: Docs) -> None:
    db.rows("select create_segment('UNDER_A_PATH')")
    url = f"{serve(ROOT_PATH='/seg')}/seg"
    window.visit(url)
    window.enter(db.value("select create_api_key('reader', 'reader')"))
    listed = {"operationId": "listSegments", "tags": ["Segments"]}
    assert "UNDER_A_PATH" in window.execute(window.open(listed), 200)
    page = window.page
    page.goto(page.get_by_role("link", name="all codes").evaluate("link => link.href"))
    expect(page.get_by_role("heading", name="Errors")).to_be_visible()
    page.get_by_role("link", name="All calls").click()
    expect(page.locator(".opblock").first).to_be_visible()
    assert all(asked.startswith((f"{url}/", "data:")) for asked in window.asked)


def shows_in(page: Page, scheme: Any) -> None:
    """Let the browser prefer light or dark, and wait until the page has changed its colours."""
    page.emulate_media(color_scheme=scheme)
    page.evaluate("Promise.allSettled(document.getAnimations().map((each) => each.finished))")


def test_all_text_can_be_read(docs: Docs, url: str, db: Database) -> None:
    docs.enter(db.value("select create_api_key('shop', 'admin')"))
    for group, call in (
        ("Segments", "createSegment"),
        ("Members", "importMembers"),
        ("Users", "getUserSegments"),
    ):
        docs.execute(docs.open({"tags": [group], "operationId": call}), 201 if group == "Segments" else 200)
    page = docs.page
    for path in ("/docs", "/docs/errors"):
        if path != "/docs":
            page.goto(f"{url}{path}")
        for scheme in ("light", "dark"):
            shows_in(page, scheme)
            # What passed is not wanted, and takes time to list.
            options = {"runOnly": ["color-contrast"], "resultTypes": ["violations"]}
            found = Axe().run(page, options=options)
            assert found.violations_count == 0, found.generate_report()


def test_the_page_fits_a_phone(window: Docs, url: str) -> None:
    page = window.page
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="dark")
    window.visit(url)
    for call in ("Segments/createSegment", "Users/getUserSegments"):
        group, name = call.split("/")
        window.open({"tags": [group], "operationId": name})
    for path in ("/docs", "/docs/errors"):
        if path != "/docs":
            page.goto(f"{url}{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        for scheme, color in (("dark", "rgb(28, 32, 34)"), ("light", "rgb(255, 255, 255)")):
            shows_in(page, scheme)
            background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
            assert background == color
