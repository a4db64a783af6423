"""The job page without a browser: sessions, forms, and what a page says."""

from __future__ import annotations

import contextlib
import dataclasses
import html.parser
import re
from collections.abc import AsyncIterator

import httpx

from tests.integration.serving import PATIENCE, Api


@dataclasses.dataclass
class Page:
    """What a page has: texts, links, forms, and elements that could do something."""

    text: str = ""
    title: str = ""
    links: list[str] = dataclasses.field(default_factory=list)
    buttons: list[str] = dataclasses.field(default_factory=list)
    tags: list[tuple[str, dict[str, str | None]]] = dataclasses.field(default_factory=list)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of a kind."""
        return [attributes for name, attributes in self.tags if name == tag]

    def values(self, name: str) -> list[str | None]:
        """The values of a form's fields of a name."""
        return [found.get("value") for found in self.named("input") if found.get("name") == name]


class _Reader(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()
        self._inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.page.tags.append((tag, attributes))
        self._inside.append(tag)
        if tag == "a" and attributes.get("href") is not None:
            self.page.links.append(attributes["href"] or "")
        if tag == "button":
            self.page.buttons.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._inside:
            while self._inside.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        self.page.text += data
        if "title" in self._inside:
            self.page.title += data
        if "button" in self._inside:
            self.page.buttons[-1] += data.strip()


def read(answer: httpx.Response) -> Page:
    """Read a page."""
    assert answer.headers["content-type"].startswith("text/html"), answer.text
    reader = _Reader()
    reader.feed(answer.text)
    reader.page.text = re.sub(r"\s+", " ", reader.page.text)
    return reader.page


class Visitor:
    """A browser without a screen: it keeps cookies, and sends what a browser sends."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def get(self, path: str, **options: object) -> httpx.Response:
        """Ask for a page."""
        return await self.http.get(path, **options)  # type: ignore[arg-type]

    async def page(self, path: str, status: int = 200) -> Page:
        """A page, which must have this status."""
        answer = await self.http.get(path)
        assert answer.status_code == status, answer.text
        return read(answer)

    async def csrf(self) -> str:
        """What forms of this session send along."""
        return (await self.page("/queues")).values("csrf")[0] or ""

    async def post(self, path: str, *, csrf: str | None = None, **fields: str | list[str]) -> httpx.Response:
        """Send a form, as one of our own pages does unless said otherwise."""
        return await self.http.post(path, data={"csrf": await self.csrf() if csrf is None else csrf, **fields})


@contextlib.asynccontextmanager
async def visiting(api: Api, owner: str | None = "ada", scope: str = "write") -> AsyncIterator[Visitor]:
    """A visitor who has logged in; with ``owner=None`` one who has not."""
    async with httpx.AsyncClient(
        base_url=api.server.url,
        headers={"Accept": "text/html,*/*;q=0.8", "Origin": api.server.url},
        timeout=PATIENCE,
        trust_env=False,
    ) as http:
        visitor = Visitor(http)
        if owner is not None:
            answer = await http.post("/login", data={"token": await api.token(owner, scope)})
            assert answer.status_code == 303, answer.text
        yield visitor
