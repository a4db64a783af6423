"""The pages: what they show of jobs, to whom, and what their forms do."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import httpx
import pytest

from hpcjobs.lifecycle import Action, JobState
from hpcjobs_server.api.pages.job import address_of
from hpcjobs_server.api.pages.rendering import POLICY
from hpcjobs_server.settings import Settings
from tests.integration.browsing import Page, Visitor, read, visiting
from tests.integration.serving import NO_DATABASE, Api, serving

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "</title></pre></textarea><b>",
    "javascript:alert(1)",
    "\u202eevil\u2066",
    "&lt;b&gt;&amp;",
)


def check_harmless(page: Page) -> None:
    """Nothing in a page does anything but what its own templates have in them."""
    for tag, attributes in page.tags:
        assert tag not in {"img", "iframe", "object", "embed", "style"}, (tag, attributes)
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, attributes)
            assert name != "style", (tag, attributes)
            if name in {"href", "src", "action"}:
                assert not (value or "").startswith(("http:", "https:", "//", "javascript:", "data:")), (tag, value)
    for script in page.named("script"):
        assert "/static/" in f"/{script.get('src')}"
        assert "defer" in script


def listed(page: Page) -> list[str]:
    """The ids of the jobs in a list, in order."""
    return [str(row.get("id")).removeprefix("job-") for row in page.named("tr") if row.get("id")]


# Every page


async def test_every_page_forbids_what_it_does_not_need(api: Api, ada: Visitor) -> None:
    job_id = await api.submit()
    for path in ("/", f"/jobs/{job_id}", "/queues", "/login", "/nowhere", "/?state=x"):
        headers = (await ada.get(path)).headers
        assert headers["content-security-policy"] == POLICY
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"
        check_harmless(await ada.page(path, (await ada.get(path)).status_code))
    for word in ("unsafe", "*", "http"):
        assert word not in POLICY


async def test_the_files_of_the_page_are_kept_for_as_long_as_they_are_the_same(ada: Visitor) -> None:
    page = await ada.page("/")
    sources = [str(script["src"]) for script in page.named("script")]
    sources += [str(link["href"]) for link in page.named("link")]
    assert len(sources) >= 4
    for source in sources:
        answer = await ada.get(f"/{source}")
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    mark = sources[0].split("/")[1]
    old = await ada.get("/" + sources[0].replace(mark, "0" * 12))
    assert (old.status_code, old.headers["cache-control"]) == (200, "no-store")
    for path in ("/static/x/../../app.py", "/static/x/..%2f..%2fapp.py", "/static/x/vendor/README.md", "/static/x/"):
        assert (await ada.get(path)).status_code == 404


async def test_a_program_is_answered_as_before(api: Api, ada: Visitor) -> None:
    """Who asks for data gets data, also at the page's own addresses; a browser gets pages, also where there is none."""
    answer = await api.http.get("/")
    assert answer.json()["openapi"] == "/v1/openapi.json"
    assert (await api.http.get("/nowhere")).json()["code"] == "not_found"
    assert (await ada.get("/v1/nowhere")).headers["content-type"] == "application/problem+json"
    assert "there is no such page" in (await ada.page("/nowhere/at/all", 404)).text
    assert (await ada.http.head("/")).status_code == 200


async def test_addresses_hold_below_a_folder_of_a_proxy(api: Api, ada: Visitor) -> None:
    """Every address in a page is relative and leads, from where the page is, to what is there."""
    job_id = await api.submit()
    for path in ("/", f"/jobs/{job_id}", "/queues", "/nowhere/at/all", "/jobs/a%2Fb"):
        answer = await ada.get(path)
        outside = httpx.URL(f"http://proxy/user/8765{path}")
        for link in {*read(answer).links} - {"#main"}:
            reached = outside.join(link)
            assert str(reached).startswith("http://proxy/user/8765/"), (path, link)
            inside = str(reached).removeprefix("http://proxy/user/8765")
            assert (await ada.get(inside)).status_code in {200, 416}, (path, link)


@pytest.mark.parametrize("text", HOSTILE)
async def test_whatever_a_job_is_called_or_says_is_text(api: Api, ada: Visitor, text: str) -> None:
    first = await api.submit(
        name=text, tags=[text], meta={text: text}, env={"A": text}, command=["echo", text], start_in="1h"
    )
    await api.http.post(f"/v1/jobs/{first}/cancel", json={"reason": text})
    job_id = await api.submit(name=text, tags=[text])
    folder = await api.start(job_id)
    (folder / "stdout").write_text(f"{text}\n{text}")
    for name in (text.replace("/", "_"), "a?b#c%20d", "new\nline"):
        (folder / "work" / name).write_text("x")
    await api.finish(job_id, JobState.FAILED)
    form = {"action": "delete", "ids": [first, job_id]}
    confirm = await ada.post("/act", **form)
    done = await ada.post("/act", confirmed="1", **form)
    pages = [await ada.page(path) for path in ("/", f"/?tag={httpx.QueryParams({'t': text})['t']}")]
    pages += [
        read(confirm),
        await ada.page(done.headers["location"].replace("./", "/") if False else "/" + done.headers["location"]),
    ]
    again = await api.submit(name=text, tags=[text], queue="q", after=[])
    pages.append(await ada.page(f"/jobs/{again}"))
    for page in pages:
        check_harmless(page)
    if text.isprintable():
        assert text in pages[-1].text
    assert "\u202e" not in "".join(page.text for page in pages)


async def test_what_a_job_wrote_is_text_and_its_files_are_fetched_by_their_links(api: Api, ada: Visitor) -> None:
    job_id = await api.submit()
    folder = await api.start(job_id)
    (folder / "stdout").write_text("\n".join(HOSTILE))
    names = [*(text.replace("/", "_") for text in HOSTILE), "a?b#c%20d", "new\nline", "é", " "]
    names = [name for name in names if "\\" not in name]
    for name in names:
        (folder / "work" / name).write_text(name)
    (folder / "work" / "sub").mkdir()
    (folder / "work" / "sub" / "out.csv").write_text("sub/out.csv")
    page = await ada.page(f"/jobs/{job_id}")
    check_harmless(page)
    assert "<script>alert(1)</script>" in page.text
    links = [link for link in page.links if "/files/" in link]
    contents = {(await ada.get(f"/jobs/{link}")).text for link in links}
    assert contents == {*names, "sub/out.csv"}
    for link in links:
        answer = await ada.get(f"/jobs/{link}")
        assert answer.headers["content-disposition"].startswith("attachment")


async def test_links_out_of_the_jobs_folder_are_not_followed(api: Api, ada: Visitor, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a secret")
    job_id = await api.submit()
    folder = await api.start(job_id)
    (folder / "stdout").unlink()
    (folder / "stdout").symlink_to(secret)
    (folder / "work" / "link").symlink_to(secret)
    page = await ada.page(f"/jobs/{job_id}")
    assert "a secret" not in page.text
    assert not [link for link in page.links if "/files/" in link]


async def test_anothers_job_is_not_there(api: Api, ada: Visitor) -> None:
    """Its page says what the page of no job says, and nothing can be done to it."""
    job_id = await api.submit(name="hers", start_in="1h")
    async with visiting(api, "bob") as bob:
        theirs = await bob.page(f"/jobs/{job_id}", 404)
        none = await bob.page("/jobs/0b7f7a52-0000-4000-8000-000000000000", 404)
        assert theirs.text == none.text == (await bob.page("/jobs/x", 404)).text
        assert not listed(await bob.page("/"))
        assert (await bob.post("/act", action="cancel", ids=job_id)).status_code == 404
        done = await bob.post("/act", action="cancel", ids=job_id, confirmed="1")
        assert "not there any more" in (await bob.page("/" + done.headers["location"])).text
        assert (await bob.get("/?owner=ada")).status_code == 422
    assert await api.state(job_id) == "PENDING"


async def test_who_may_only_look_is_shown_nothing_to_press(api: Api) -> None:
    job_id = await api.submit(start_in="1h")
    async with visiting(api, "ada", "read") as reader:
        for path in ("/", f"/jobs/{job_id}", "/queues"):
            page = await reader.page(path)
            assert set(page.buttons) <= {"Log out", "Show", "Copy"}
            assert not page.values("ids")
        for action in ("cancel", "retry", "delete"):
            answer = await reader.post("/act", action=action, ids=job_id, confirmed="1")
            assert answer.status_code == 403
            assert "the scope read" in read(answer).text
    assert await api.state(job_id) == "PENDING"


# The list


async def test_the_address_is_the_list(api: Api, ada: Visitor) -> None:
    """Filters, order and place are in it; each condition holds."""
    ids = [await api.submit(name=f"fit-{n}", tags=["odd"] if n % 2 else ["even"], start_in="1h") for n in range(6)]
    other = await api.submit(name="other", queue="night")
    assert listed(await ada.page("/")) == [other, *reversed(ids)]
    assert listed(await ada.page("/?name=fit-*&tag=odd&sort=created")) == [ids[1], ids[3], ids[5]]
    assert listed(await ada.page("/?queue=night")) == [other]
    assert listed(await ada.page("/?state=queued")) == [other]
    assert listed(await ada.page("/?state=PENDING&sort=-name&limit=2")) == [ids[5], ids[4]]
    assert not listed(await ada.page("/?created_before=1h"))
    assert len(listed(await ada.page("/?created_after=1h"))) == 7
    page = await ada.page("/?tag=odd")
    assert "PENDING 3" in page.text


async def test_pages_follow_each_other_without_a_lost_or_doubled_job(api: Api, ada: Visitor) -> None:
    ids = [await api.submit(name=f"n{n}") for n in range(7)]
    for sort, wanted in (("-created", [*reversed(ids)]), ("name", ids)):
        seen, path, pages = [], f"/?limit=3&sort={sort}", []
        while path:
            page = await ada.page(path)
            pages.append(listed(page))
            seen += listed(page)
            forward = [link for link in page.links if "cursor=" in link]
            path = f"/{forward[0]}" if forward else ""
        assert seen == wanted
        back = [link for link in page.links if "before=" in link]
        assert listed(await ada.page(f"/{back[0]}")) == pages[-2]


async def test_what_an_address_asks_wrongly_is_said_and_nothing_is_shown_instead(api: Api, ada: Visitor) -> None:
    """A condition that cannot be used is never left out: the list would be another one than was asked for."""
    await api.submit(name="there")
    for query, said in (
        ("state=DONE", "FINISHED"),
        ("sort=size", "-created"),
        ("cursor=x", "first page"),
        ("limit=0", "1"),
    ):
        page = await ada.page(f"/?{query}", 422)
        assert said in page.text
        assert not listed(page)
        assert "there" not in page.text.replace("there is", "")


async def test_an_operator_sees_everybodys_jobs_and_whose_they_are(api: Api, operator: Visitor) -> None:
    mine = await api.submit(name="of-ada")
    async with api.client("bob") as bob:
        theirs = (await bob.post("/v1/jobs", json={"command": "true", "name": "of-bob"})).json()["id"]
    assert set(listed(await operator.page("/"))) == {mine, theirs}
    assert listed(await operator.page("/?owner=bob")) == [theirs]
    form = {"action": "cancel", "all": "1", "conditions": "owner=bob"}
    assert "Cancel 1 job?" in read(await operator.post("/act", **form)).text
    await operator.post("/act", confirmed="1", **form)
    assert (await api.state(mine), (await api.store.get(None, theirs)).state) == ("QUEUED", "CANCELLED")  # type: ignore[union-attr]


# One job


@pytest.mark.parametrize("word", [state for state in JobState if state is not JobState.UNKNOWN])
async def test_a_page_offers_what_its_jobs_state_allows(api: Api, ada: Visitor, word: JobState) -> None:
    job_id = await api.submit()
    if not word.not_started:
        await api.start(job_id)
    if word.terminal:
        await api.finish(job_id, word)
    else:
        async with api.store.connection() as connection:
            await connection.execute("UPDATE jobs SET state = %s WHERE id = %s", [word.value, job_id])
    page = await ada.page(f"/jobs/{job_id}")
    assert word.value in page.title
    offered = {str(value) for value in page.values("action")}
    assert offered == {action.value for action in (Action.CANCEL, Action.RETRY, Action.DELETE) if word.allows(action)}


async def test_a_cancel_from_a_jobs_page_leads_back_to_it_and_says_what_is_so(api: Api, ada: Visitor) -> None:
    job_id = await api.submit(grace="90s")
    await api.start(job_id)
    form = {"action": "cancel", "ids": job_id, "home": job_id, "confirmed": "1", "reason": "slow"}
    answer = await ada.post("/act", **form)
    assert answer.headers["location"].startswith(f"jobs/{job_id}?outcome=")
    page = await ada.page("/" + answer.headers["location"])
    assert "(slow): asked to stop" in page.text
    assert "cancelling" in page.text
    assert "stopped by force after 1:30" in page.text
    assert "CANCELLED" not in page.text
    assert "cancel" not in page.values("action"), "it was asked already"
    await api.finish(job_id, JobState.CANCELLED)
    assert "CANCELLED" in (await ada.page(f"/jobs/{job_id}")).text
    answer = await ada.post("/act", action="delete", ids=job_id, home=job_id, confirmed="1")
    assert answer.headers["location"].startswith("outcomes/"), "its page is gone"


async def test_nobody_is_led_elsewhere_by_a_form(api: Api, ada: Visitor) -> None:
    """The job whose page comes next is one of those that were acted on."""
    job_id = await api.submit()
    answer = await ada.post("/act", action="cancel", ids=job_id, home="../../evil", confirmed="1")
    assert answer.headers["location"].startswith("outcomes/")


async def test_a_job_waits_for_what_has_not_ended_and_came_after_what_has(api: Api, ada: Visitor) -> None:
    over, going = await api.submit(name="over"), await api.submit(name="going")
    job_id = await api.submit(after=[over, going])
    await api.start(over)
    await api.finish(over)
    text = (await ada.page(f"/jobs/{job_id}")).text
    assert re.search(r"Waits for going .*Came after over ", text)
    later = await api.submit(after=[over], start_in="1h")
    text = (await ada.page(f"/jobs/{later}")).text
    assert "Waits for" not in text
    assert "Came after over" in text


async def test_a_job_that_runs_again_has_not_waited_while_it_ran(api: Api, ada: Visitor) -> None:
    """The list, which does not know how long it waited between its attempts, leaves it open; its page says it."""
    job_id = await api.submit()
    await api.start(job_id)
    async with api.store.connection() as connection:
        for table, column in (("jobs", "created_at"), ("jobs", "started_at"), ("events", "at")):
            await connection.execute(f"UPDATE {table} SET {column} = {column} - interval '5 hours'")
    await api.finish(job_id, JobState.FAILED)
    await api.http.post(f"/v1/jobs/{job_id}/retry")
    for runs in (False, True):
        if runs:
            await api.start(job_id, attempt=1)
        row, page = await ada.page("/"), await ada.page(f"/jobs/{job_id}")
        for found in (row, page):
            since = [span["data-since"] or "" for span in found.named("span") if "data-since" in span]
            ages = [dt.datetime.now(dt.timezone.utc) - dt.datetime.fromisoformat(at) for at in since]
            assert all(age < dt.timedelta(minutes=1) for age in ages)
        assert "Waited5:" not in page.text.replace(" ", "")
        assert not re.search(r"(?<!\d)5:00:\d\d", row.text)


async def test_a_job_that_was_cancelled_while_it_waited_again_has_not_run_meanwhile(api: Api, ada: Visitor) -> None:
    job_id = await api.failed()
    async with api.store.connection() as connection:
        for table in ("jobs", "attempts"):
            await connection.execute(
                f"UPDATE {table} SET started_at = started_at - interval '5 hours',"
                " finished_at = finished_at - interval '5 hours'"
            )
    await api.http.post(f"/v1/jobs/{job_id}/retry")
    await api.http.post(f"/v1/jobs/{job_id}/cancel")
    text = (await ada.page(f"/jobs/{job_id}")).text
    assert "CANCELLED" in text
    assert re.search(r"Ran ?0\.\d s", text)
    assert not re.search(r"(?<!\d)5:00:\d\d", text)


async def test_a_page_tells_everything_that_is_known(api: Api, ada: Visitor) -> None:
    first = await api.submit(name="first", max_attempts=2)
    job_id = await api.submit(
        name="second", after=[first], tags=["a"], meta={"run": [7]}, env={"OMP": "4"}, priority=3,
        resources={"cores": 2, "memory": "2GiB", "walltime": "1h30m"}, retry_on=[7], max_attempts=3, backoff="5s",
    )  # fmt: skip
    page = await ada.page(f"/jobs/{job_id}")
    for said in (
        "second", "it waits for 1 job", "Waits for first", "priority 3", "2 cores, 2 GiB of memory, 1:30:00 at most",
        "at most 3, the second after 5.0 s, on exit code 7", '"run"', "OMP=4", "by ada", "client.submit(", "hpcjobs submit",
    ):  # fmt: skip
        assert said in page.text, said
    assert f'client = Client("{api.server.url}")' in page.text
    assert "Jobs that wait for it, or did second" in (await ada.page(f"/jobs/{first}")).text
    await api.start(first)
    await api.finish(first, JobState.FAILED)
    await api.http.post(f"/v1/jobs/{first}/retry")
    page = await ada.page(f"/jobs/{first}")
    for said in ("Attempts", "Processor time", "by worker", "by ada", "History"):
        assert said in page.text


async def test_an_array_is_the_list_of_its_jobs(api: Api, ada: Visitor) -> None:
    array = (await api.http.post("/v1/arrays", json={"spec": {"command": "fit {index}"}, "size": 3})).json()["array"]
    answer = await ada.get(f"/jobs/{array['id']}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"../?array={array['id']}")
    jobs = listed(await ada.page(f"/?array={array['id']}"))
    assert len(jobs) == 3
    page = await ada.page(f"/jobs/{jobs[0]}")
    assert "index 2" in page.text
    assert "fit 2" in page.text
    assert "fit {index}" not in page.text


async def test_the_end_of_a_long_log_is_shown_and_the_rest_is_a_link_away(api: Api, ada: Visitor) -> None:
    job_id = await api.submit()
    folder = await api.start(job_id)
    text = "".join(f"line {n} é\n" for n in range(20_000)) + "begun 50%\rbegun 60%"
    (folder / "stdout").write_text(text)
    page = await ada.page(f"/jobs/{job_id}")
    assert "the last 64 KiB of" in page.text
    assert "line 19999 é" in page.text
    assert "begun 60%" in page.text
    assert "begun 50%" not in page.text
    [log] = [found for found in page.named("pre") if "data-follow" in found]
    offset = int(log["data-offset"] or "")
    follow = f"/jobs/{log['data-follow']}"
    answer = await ada.get(follow, headers={"Range": f"bytes={offset}-"})
    assert answer.text == "begun 50%\rbegun 60%"
    assert (await ada.get(follow)).content == text.encode()


async def test_stderr_has_a_log_of_its_own_where_it_was_asked_for(api: Api, ada: Visitor) -> None:
    job_id = await api.submit(stderr="separate")
    folder = await api.start(job_id)
    (folder / "stderr").write_text("a warning\n")
    page = await ada.page(f"/jobs/{job_id}")
    assert "a warning" in page.text
    assert len([found for found in page.named("pre") if "data-follow" in found]) == 2


async def test_a_job_of_a_newer_version_is_shown_as_far_as_it_is_understood(api: Api, ada: Visitor) -> None:
    job_id = await api.submit(name="newer")
    async with api.store.connection() as connection:
        await connection.execute("UPDATE jobs SET spec = spec || '{\"later\": 1}' WHERE id = %s", [job_id])
    assert "cannot be read by this version" in (await ada.page(f"/jobs/{job_id}")).text


def test_an_address_in_code_is_the_browsers_own() -> None:
    """Behind a proxy that ends TLS it is https; a host with anything strange in it is not repeated."""
    from starlette.requests import Request

    def said(**headers: str) -> str | None:
        raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        return address_of(Request({"type": "http", "scheme": "http", "path": "/", "headers": raw}))

    assert said(host="a.example:8765") == "http://a.example:8765"
    assert said(host="a.example", x_forwarded_proto="https") == "https://a.example"
    assert said(host="[::1]:80", x_forwarded_proto="gopher") == "http://[::1]:80"
    for header in ("x_forwarded_prefix", "x_forwarded_context"):
        assert said(host="a.example", **{header: "/user/ada/proxy/8765"}) is None, "it is not all of the address"
        assert said(host="a.example", **{header: "/"}) == "http://a.example"
    for host in ('a"b', "a b", "a\\b", "a/b", ""):
        assert said(host=host) is None


# Queues and workers


async def test_everybody_sees_the_queues_and_an_operator_the_workers(api: Api, ada: Visitor, operator: Visitor) -> None:
    await api.submit(queue="night")
    await api.beat(cores=7)
    page = await ada.page("/queues")
    assert "night" in page.text
    assert "Workers" not in page.text
    assert "Pause" not in page.buttons
    page = await operator.page("/queues")
    assert "Those that are alive" in page.text
    assert "Pause" in page.buttons


async def test_an_operator_pauses_resumes_and_limits_a_queue(api: Api, ada: Visitor, operator: Visitor) -> None:
    await api.submit(queue="night")
    answer = await operator.post("/queues", name="night", paused="yes", reason="<maintenance>")
    assert (answer.status_code, answer.headers["location"]) == (303, "queues")
    assert "paused: <maintenance>" in (await ada.page("/queues")).text
    await operator.post("/queues", name="night", paused="no")
    assert "paused" not in (await ada.page("/queues")).text
    await operator.post("/queues", name="night", max_running="3", max_walltime="2h")
    [queue] = (await api.http.get("/v1/queues")).json()["items"]
    assert (queue["max_running"], queue["max_walltime"]) == (3, 7200)
    await operator.post("/queues", name="night", max_running="", max_walltime="2h")
    [queue] = (await api.http.get("/v1/queues")).json()["items"]
    assert (queue["max_running"], queue["max_walltime"]) == (None, 7200)
    for form, said in (({"max_running": "0"}, "1"), ({"max_walltime": "soon"}, "1h30m"), ({"name": "a b"}, "letters")):
        answer = await operator.post("/queues", **{"name": "night", **form})
        assert answer.status_code == 422
        assert said in read(answer).text
    assert (await ada.post("/queues", name="night", paused="yes")).status_code == 403


# What is away


async def test_a_page_says_that_the_database_is_away(tmp_path: Path) -> None:
    """And does not say that whoever has a session must log in."""
    settings = Settings(data=tmp_path / "data", database_url=NO_DATABASE, port=0)
    async with serving(settings) as api, visiting(api, None) as visitor:
        visitor.http.cookies.set(f"hpcjobs-session-{api.server.url.rpartition(':')[2]}", "hpcjobs_x")
        page = await visitor.page("/", 503)
        assert "database does not answer at the moment" in page.text
