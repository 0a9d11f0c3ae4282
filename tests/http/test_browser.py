"""The docs page as people use it: a key is entered, every call is opened and executed, in a real Chromium.

The browser can reach 127.0.0.1 only, and what it asks for is looked at: the page needs no internet at all.
"""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.conftest import Database
from tests.http.documented import calls, success
from tests.launcher import Server

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

pytestmark = [pytest.mark.browser, pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium")]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser with nothing in it."""
    with sync_playwright() as playwright:
        # Chromium keeps its sandbox from root.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, chromium_sandbox=False)
        yield browser
        browser.close()


@pytest.fixture
def url(run_server: Callable[..., Server], db: Database) -> str:
    """Where the service runs, on an empty database that has just been swept."""
    db.rows("call sweep()")
    return str(run_server().url)


class Docs:
    """The docs page in a browser, with its requests and its messages."""

    def __init__(self, page: Page, url: str) -> None:
        """Open it."""
        self.page = page
        self.asked: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(f"{url}/docs")
        expect(page.locator(".opblock").first).to_be_visible()

    def enter(self, key: str) -> None:
        """Enter a key by Authorize, in the place of the one before."""
        self.page.locator(".btn.authorize").click()
        bearer = self.page.locator(".auth-container", has=self.page.get_by_label("auth-bearer-value"))
        if (logout := self.page.get_by_role("button", name="Remove authorization")).count():
            logout.first.click()
        bearer.get_by_label("auth-bearer-value").fill(key)
        bearer.get_by_role("button", name="Apply credentials").click()
        self.page.locator(".auth-wrapper .btn-done").first.click()

    def open(self, operation: dict[str, Any]) -> Locator:
        """Open a call."""
        block = self.block(operation)
        block.locator(".opblock-summary-control").click()
        expect(block.locator(".execute")).to_be_visible()
        return block

    def close(self, operation: dict[str, Any]) -> None:
        """Close it without the animation, which takes a second."""
        thing = ["operations", operation["tags"][0], operation["operationId"]]
        self.page.evaluate("thing => { ui.layoutActions.show(thing, false) }", thing)

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
def docs(chromium: Browser, url: str) -> Iterator[Docs]:
    """The page in a new window; in the end it has asked no other server, and logged no error."""
    page = chromium.new_page()
    page.set_default_timeout(10_000)
    docs = Docs(page, url)
    yield docs
    page.close()
    assert {httpx.URL(asked).host for asked in docs.asked if not asked.startswith("data:")} == {"127.0.0.1"}
    assert docs.complaints == []


def test_every_call_works_as_its_examples_stand(docs: Docs, url: str, db: Database) -> None:
    docs.enter(db.value("select create_api_key('admin', 'admin')"))
    description = httpx.get(f"{url}/openapi.json").json()
    link = ""
    for _, _, operation in calls(description):
        block = docs.open(operation)
        status, answers = success(operation)
        if operation["operationId"] == "getReport":
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
        docs.close(operation)
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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone(chromium: Browser, url: str, scheme: Any) -> None:
    page = chromium.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    docs = Docs(page, url)
    for call in ("Segments/createSegment", "Users/getUserSegments"):
        group, name = call.split("/")
        docs.open({"tags": [group], "operationId": name})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 27)"}[scheme]
    page.goto(f"{url}/docs/errors")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()
