"""The way into the job page: who is let in, for how long, and what a browser of theirs may send."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from hpcjobs_server.api.pages.login import inside
from hpcjobs_server.settings import Settings
from tests.integration.browsing import Visitor, read, visiting
from tests.integration.serving import Api, serving


def cookie(answer: httpx.Response) -> str:
    return answer.headers["set-cookie"]


async def one_time(api: Api, **order: object) -> str:
    answer = await api.http.post("/v1/logins", json=order)
    assert answer.status_code == 201, answer.text
    return answer.json()["path"]


async def test_who_is_not_logged_in_is_sent_to_do_so_and_back(api: Api, stranger: Visitor) -> None:
    job_id = await api.submit(name="mine")
    answer = await stranger.get(f"/jobs/{job_id}?outcome=x")
    assert answer.status_code == 303
    assert answer.headers["location"] == f"../login?next=jobs%2F{job_id}%3Foutcome%3Dx"
    page = await stranger.page(f"/login?next=jobs%2F{job_id}")
    assert page.values("next") == [f"jobs/{job_id}"]
    form = {"token": await api.token("ada"), "next": f"jobs/{job_id}"}
    assert (await stranger.http.post("/login", data=form)).headers["location"] == f"jobs/{job_id}"
    assert "mine" in (await stranger.page(f"/jobs/{job_id}")).text


@pytest.mark.parametrize(
    ("asked", "then"),
    [("/?state=FAILED", "./?state=FAILED"), ("/", "./"), ("/queues", "queues"), ("/jobs/1", "jobs/1")],
)
async def test_after_the_login_each_page_is_that_which_was_asked_for(
    api: Api, stranger: Visitor, asked: str, then: str
) -> None:
    """Also a list with filters: its address is that of the list, not of the login with these filters."""
    sent = httpx.URL((await stranger.get(asked)).headers["location"])
    assert sent.path == ("login" if asked.count("/") == 1 else "../login")
    form = {"token": await api.token("ada"), "next": sent.params.get("next", "")}
    assert (await stranger.http.post("/login", data=form)).headers["location"] == then


async def test_what_asks_for_a_part_of_a_page_is_told_where_to_log_in(stranger: Visitor) -> None:
    answer = await stranger.get("/jobs/1", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "../login?next=jobs%2F1")


async def test_the_cookie_is_of_no_use_to_scripts_and_other_sites(api: Api, stranger: Visitor) -> None:
    token = await api.token("ada")
    answer = await stranger.http.post("/login", data={"token": token})
    port = api.server.url.rpartition(":")[2]
    assert cookie(answer).startswith(f"hpcjobs-session-{port}=hpcjobs_")
    assert token not in cookie(answer), "a session has a token of its own"
    for word in ("HttpOnly", "SameSite=Strict", f"Max-Age={(12 + 24) * 3600};"):
        assert word in cookie(answer)
    assert "Secure" not in cookie(answer)
    for proxies in ("https", "HTTPS, http"):
        answer = await stranger.http.post("/login", data={"token": token}, headers={"X-Forwarded-Proto": proxies})
        assert "; Secure" in cookie(answer)
    answer = await stranger.http.post("/login", data={"token": token}, headers={"X-Forwarded-Proto": "http, https"})
    assert "Secure" not in cookie(answer), "the browser's own connection is the first of the list"


async def test_a_wrong_token_is_refused_and_the_place_to_go_to_is_kept(api: Api, stranger: Visitor) -> None:
    expired = await api.token("ada", expires_in=timedelta(milliseconds=1))
    for token in ("", "nonsense", "é", "x" * 600, expired):
        answer = await stranger.http.post("/login", data={"token": token, "next": "queues"})
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        page = read(answer)
        assert "does not know this token" in page.text
        assert page.values("next") == ["queues"]


@pytest.mark.parametrize(
    "where",
    [
        "//evil.example", "/\\evil.example", "\\\\evil", "https://evil.example", "https:evil", "javascript:alert(1)",
        "/etc", "jobs//x", "../../up", "a b", "jobs/1\r\nSet-Cookie: x=1", "\tjavascript:x", "é",
    ],
)  # fmt: skip
async def test_nobody_is_sent_elsewhere_by_an_address(api: Api, stranger: Visitor, where: str) -> None:
    """What is no address within the page stands for the list."""
    answer = await stranger.http.post("/login", data={"token": await api.token("ada"), "next": where})
    assert (answer.status_code, answer.headers["location"]) == (303, "./")
    assert inside(where) == ""


async def test_a_session_does_what_its_token_may(api: Api) -> None:
    await api.submit(name="of-ada")
    async with visiting(api, "ada", "read") as reader, visiting(api, "root", "admin") as operator:
        assert "of-ada" in (await reader.page("/")).text
        assert (await reader.post("/act", action="cancel", ids="x")).status_code == 403
        assert "of-ada" in (await operator.page("/")).text
    async with visiting(api, "bob") as other:
        assert "of-ada" not in (await other.page("/")).text


async def test_a_session_ends_with_the_token_that_it_came_from(api: Api, stranger: Visitor) -> None:
    made = (await api.http.post("/v1/tokens", json={"name": "n"})).json()
    await stranger.http.post("/login", data={"token": made["token"]})
    await stranger.page("/")
    assert (await api.http.delete(f"/v1/tokens/{made['id']}")).status_code == 204
    for _ in range(400):  # a token that was looked up is good for some seconds
        answer = await stranger.get("/")
        if answer.status_code == 303:
            break
        await asyncio.sleep(0.02)
    assert answer.headers["location"] == "login?expired=1"
    assert "Your session has ended" in (await stranger.page("/login?expired=1")).text


async def test_a_session_ends_after_its_time(database: str, tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "data", database_url=database, port=0, session_seconds=0.3)
    async with serving(settings) as api, visiting(api, "ada") as visitor:
        await asyncio.sleep(0.4)
        assert (await visitor.get("/")).headers["location"] == "login?expired=1", "the browser still has the cookie"


async def test_log_out_ends_the_session_everywhere(api: Api, ada: Visitor) -> None:
    kept = dict(ada.http.cookies)
    answer = await ada.post("/logout")
    assert (answer.status_code, answer.headers["location"]) == (303, "login")
    assert "Max-Age=0" in cookie(answer)
    async with visiting(api, None) as thief:
        thief.http.cookies.update(kept)
        assert (await thief.get("/")).status_code == 303
    assert (await api.http.get("/v1/info")).status_code == 200, "the token itself is as good as before"


# What a browser may send


async def test_a_form_counts_only_from_a_page_of_this_session(api: Api, ada: Visitor) -> None:
    """Another site's form, and one of another session of the same owner, change nothing."""
    job_id = await api.submit(start_in="1h")
    form = {"action": "cancel", "ids": job_id, "confirmed": "1"}
    async with visiting(api, "ada") as again:
        other = await again.csrf()
    good = await ada.csrf()
    for csrf in ("", "x", other, good[:-1]):
        answer = await ada.post("/act", csrf=csrf, **form)
        assert answer.status_code == 403
        assert "load the page again" in read(answer).text
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = await ada.http.post("/act", data={"csrf": good, **form}, headers=headers)
        assert answer.status_code == 403, headers
    assert (await api.http.get(f"/v1/jobs/{job_id}")).json()["state"] == "PENDING"
    assert (await ada.post("/act", csrf=good, **form)).status_code == 303
    assert (await api.http.get(f"/v1/jobs/{job_id}")).json()["state"] == "CANCELLED"


async def test_another_site_logs_nobody_in(api: Api, stranger: Visitor) -> None:
    """Whoever is sent a form of another site must not go on as somebody else without knowing."""
    answer = await stranger.http.post(
        "/login", data={"token": await api.token("evil")}, headers={"Origin": "http://evil.example"}
    )
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


async def test_with_the_cookie_the_api_can_be_read_and_not_be_changed(api: Api, ada: Visitor) -> None:
    job_id = await api.submit()
    assert (await ada.get(f"/v1/jobs/{job_id}")).status_code == 200
    assert (await ada.http.head(f"/v1/jobs/{job_id}/logs/stdout")).status_code == 200
    for method, path in (("POST", "/v1/jobs"), ("POST", f"/v1/jobs/{job_id}/cancel"), ("DELETE", f"/v1/jobs/{job_id}")):
        answer = await ada.http.request(method, path, json={"command": "true"} if path == "/v1/jobs" else None)
        assert (answer.status_code, answer.json()["code"]) == (401, "no_token")
    assert (await ada.get("/v1/info", headers={"Sec-Fetch-Site": "cross-site"})).status_code == 401
    assert (await ada.get("/v1/info", headers={"Sec-Fetch-Site": "same-site"})).status_code == 401
    answer = await ada.get("/v1/info", headers={"Authorization": "Bearer wrong"})
    assert answer.status_code == 401, "a header counts before the cookie"
    answer = await ada.get("/v1/info", headers={"Authorization": "Basic YWRhOng="})
    assert answer.status_code == 200, "what a proxy on the way asks for is not the service's"
    assert (await ada.get("/v3/jobs/list")).status_code == 401


async def test_a_form_that_is_none_is_refused(ada: Visitor) -> None:
    csrf = await ada.csrf()
    answer = await ada.http.post("/act", json={"csrf": csrf})
    assert answer.status_code == 415
    answer = await ada.http.post("/act", data={"csrf": csrf, "reason": "x" * 1_100_000})
    assert answer.status_code == 413
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await ada.http.post("/act", content=b"csrf=%ff", headers=form)).status_code == 422
    assert (await ada.http.post("/act", content=b"a&" * 30_000, headers=form)).status_code in {403, 422}


# The address that lets in once


async def test_a_one_time_address_lets_one_browser_in_once(api: Api) -> None:
    """Looking at it, as the preview of a link does, uses nothing up; of many who come at once one is let in."""
    path = await one_time(api)
    key = httpx.URL(path).params["key"]
    async with visiting(api, None) as preview:
        for _ in range(3):
            assert (await preview.page(path)).values("key") == [key]

    async def come() -> int:
        async with visiting(api, None) as visitor:
            answer = await visitor.http.post("/login", data={"key": key})
            if answer.status_code == 303:
                await visitor.page("/")
            return answer.status_code

    assert sorted(await asyncio.gather(*[come() for _ in range(20)])) == [303] + [401] * 19
    async with visiting(api, None) as late:
        answer = await late.http.post("/login", data={"key": key})
        assert answer.status_code == 401
        assert "hpcjobs page" in read(answer).text


async def test_a_one_time_address_gives_what_its_token_may_and_ends_with_it(api: Api) -> None:
    made = (await api.http.post("/v1/tokens", json={"name": "n", "scope": "read"})).json()
    headers = {"Authorization": f"Bearer {made['token']}"}
    paths = [(await api.http.post("/v1/logins", headers=headers)).json()["path"] for _ in range(2)]
    keys = [httpx.URL(path).params["key"] for path in paths]
    async with visiting(api, None) as visitor:
        assert (await visitor.http.post("/login", data={"key": keys[0]})).status_code == 303
        assert "reads" in (await visitor.page("/")).text
    await api.http.delete(f"/v1/tokens/{made['id']}")
    async with visiting(api, None) as visitor:
        assert (await visitor.http.post("/login", data={"key": keys[1]})).status_code == 401


async def test_a_one_time_address_lasts_as_long_as_asked_and_a_day_at_most(api: Api, stranger: Visitor) -> None:
    key = httpx.URL(await one_time(api, expires_in=0.05)).params["key"]
    await asyncio.sleep(0.1)
    assert (await stranger.http.post("/login", data={"key": key})).status_code == 401
    for length in (0, -1, 86_401):
        answer = await api.http.post("/v1/logins", json={"expires_in": length})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "expires_in")


async def test_what_is_for_one_door_opens_no_other(api: Api, stranger: Visitor) -> None:
    """A one-time key is no token and refreshes none; a refresh token of the Tapis API lets no browser in."""
    key = httpx.URL(await one_time(api)).params["key"]
    assert (await api.http.get("/v1/info", headers={"Authorization": f"Bearer {key}"})).status_code == 401
    assert (await stranger.http.post("/login", data={"token": key})).status_code == 401
    parent = await api.store.authenticate(await api.token("ada"))
    assert parent is not None
    refresh = await api.store.derive_token(
        parent.id, name="Tapis refresh", expires_in=timedelta(hours=1), refreshes=True
    )
    assert refresh is not None
    assert (await stranger.http.post("/login", data={"key": refresh.token or ""})).status_code == 401
    assert await api.store.redeem_token(key, name="Tapis refresh") is None
    assert (await stranger.http.post("/login", data={"key": key})).status_code == 303


async def address_of(api: Api, owner: str, scope: str = "write") -> str:
    """An address that lets in once, which somebody else made."""
    headers = {"Authorization": f"Bearer {await api.token(owner, scope)}"}
    answer = await api.http.post("/v1/logins", headers=headers)
    return f"{answer.json()['path']}&next=queues"


async def test_who_is_logged_in_is_not_made_somebody_else_by_an_address(api: Api, ada: Visitor) -> None:
    """The page says who is logged in and asks; it does not go on by itself, nor to more or fewer rights."""
    for owner, scope in (("bob", "write"), ("ada", "admin"), ("ada", "read")):
        path = await address_of(api, owner, scope)
        page = await ada.page(path)
        assert "You are logged in as ada" in page.text
        assert not [found for found in page.named("script") if "login.js" in (found.get("src") or "")]
        answer = await ada.http.post("/login", data={"key": page.values("key")[0]})
        assert "You are logged in as ada" in read(answer).text, "also where a link of another site led to it"
        assert "set-cookie" not in answer.headers
        form = {name: page.values(name)[0] for name in ("key", "next", "instead")}
        answer = await ada.http.post("/login", data=form)
        assert (answer.status_code, answer.headers["location"]) == (303, "queues"), "who wants to may"
        await ada.http.post("/login", data={"token": await api.token("ada")})


async def test_an_address_for_oneself_goes_on_and_is_not_used_up(api: Api, ada: Visitor, stranger: Visitor) -> None:
    path = await address_of(api, "ada")
    answer = await ada.get(path)
    assert (answer.status_code, answer.headers["location"]) == (303, "queues")
    key = httpx.URL(path).params["key"]
    assert (await stranger.http.post("/login", data={"key": key})).status_code == 303
