"""The page of one job and that of the queues, in detail: the end of a log, files, what is written out, what is bounded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcjobs import wording
from hpcjobs.lifecycle import JobState
from hpcjobs_server import files
from hpcjobs_server.api.pages import filelist, job, logtail, queues
from hpcjobs_server.api.pages.logtail import read_tail, tail_of
from hpcjobs_server.files import note_inputs
from tests.integration.browsing import Page, Visitor, read, visiting
from tests.integration.serving import Api

TURNED = "fit\u202egpj.sh\u2066"
"""A name that looks like another one where its characters are obeyed."""


def file_links(page: Page) -> list[str]:
    return [link for link in page.links if "/files/" in link]


# The end of a log

LOGS = st.lists(
    st.sampled_from(
        [b"\n", b"\n\n", b"\r", b"10%", b"x" * 7, "é€🙂".encode(), b"\x1b[31m", b"\x1b]", b"\xff", b"\xe2\x82"]
    )
    | st.binary(max_size=5)
).map(b"".join)


def as_shown(data: bytes) -> str:
    return "\n".join(wording.plain_log(line, widest=10**6) for line in data.decode("utf-8", "replace").split("\n"))


@given(log=LOGS, most=st.integers(1, 40))
def test_a_log_is_its_tail_and_what_follows_from_the_offset(log: bytes, most: int) -> None:
    """Whole lines, then the line that was begun, from whose first byte on it is followed: none is lost or doubled."""
    tail = tail_of(log[-most:], len(log))
    start = len(log) - tail.shown
    assert start <= tail.offset <= len(log) == tail.total
    assert tail.offset == start or log[tail.offset - 1 : tail.offset] == b"\n"
    assert b"\n" not in log[tail.offset :]
    assert tail.lines == as_shown(log[start : tail.offset])
    assert tail.rest == as_shown(log[tail.offset :])
    assert tail.cut == (start > 0)
    if len(log) <= most:
        assert not tail.cut


@given(text=st.text(st.sampled_from("aé€🙂\n\u00a0")), most=st.integers(1, 40))
def test_the_end_of_a_text_is_that_text_to_the_letter(text: str, most: int) -> None:
    """Wherever it is cut: no part of a character is shown, and no empty line is left out."""
    log = text.encode()
    tail = tail_of(log[-most:], len(log))
    shown = tail.lines + tail.rest
    assert text.endswith(shown)
    assert shown == text or len(shown.encode()) <= most
    if len(log) > most >= 4 and "\n" not in text:
        assert len(shown.encode()) > most - 4, "as much of a long line as there is room for"


def test_what_a_job_writes_while_its_log_is_read_comes_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The offset is that of what was shown, not of what there is by then."""
    log = tmp_path / "stdout"
    log.write_bytes(b"one\ntwo")
    opened = files.open_below

    def grows(*args: Any) -> files.OpenFile:
        file = opened(*args)
        with log.open("ab") as more:
            more.write(b" and more\nthree\n")
        return file

    monkeypatch.setattr(logtail, "open_below", grows)
    tail = read_tail(tmp_path, ("stdout",))
    assert (tail.lines, tail.rest, tail.offset, tail.total) == ("one\n", "two", 4, 7)


async def test_a_page_says_whether_a_log_is_empty_for_now_or_for_good(api: Api, ada: Visitor) -> None:
    job_id = await api.submit()
    assert "nothing yet" in (await ada.page(f"/jobs/{job_id}")).text
    await api.start(job_id)
    await api.finish(job_id)
    assert "it printed nothing" in (await ada.page(f"/jobs/{job_id}")).text


async def test_a_part_of_a_page_leaves_the_log_out(api: Api, ada: Visitor) -> None:
    """What the page's script asks for at each change is what changes; the log is followed by itself."""
    job_id = await api.submit(name="fit")
    folder = await api.start(job_id)
    (folder / "stdout").write_text("printed\n")
    page = read(await ada.get(f"/jobs/{job_id}", headers={"HX-Request": "true"}))
    assert "printed" not in page.text
    [live] = [found for found in page.named("div") if found.get("id") == "live"]
    assert (live["data-ids"], live["data-title"]) == (job_id, "RUNNING · fit · hpcjobs")


# Texts


async def test_what_a_job_is_asked_to_do_cannot_look_like_something_else(api: Api, ada: Visitor) -> None:
    """Characters that turn the direction of writing are written out, also in commands and values of many lines."""
    shell = await api.submit(
        command=f"echo one\n\techo {TURNED}\r\n", env={"A": f"{TURNED}\nB=2"}, meta={TURNED: [TURNED]}, name="x"
    )
    program = await api.submit(command=["echo", TURNED], after=[shell], name=TURNED, tags=[TURNED])
    for job_id in (shell, program):
        answer = await ada.get(f"/jobs/{job_id}")
        assert not set(TURNED) & set("\u202e\u2066") & set(answer.text)
        assert "\\u202egpj" in answer.text
    text = (await ada.get(f"/jobs/{shell}")).text
    assert "echo one\n\techo fit\\u202egpj.sh\\u2066\\r\n" in text, "its lines are lines"
    assert "A=fit\\u202egpj.sh\\u2066\\nB=2\n" in text, "a value is no other variable"


async def test_an_item_of_an_array_is_said_on_one_line(api: Api, ada: Visitor) -> None:
    body = {"spec": {"command": "fit {damping}"}, "over": [{"damping": 0.05}]}
    array = (await api.http.post("/v1/arrays", json=body)).json()["array"]
    [found] = (await api.http.get("/v1/jobs", params={"array": array["id"]})).json()["items"]
    assert 'index 0, for {"damping": 0.05}' in (await ada.page(f"/jobs/{found['id']}")).text


async def test_an_outcome_is_told_of_the_job_it_is_of(api: Api, ada: Visitor) -> None:
    """And of none that an address was made up for, nor to anybody else."""
    one, other = await api.submit(start_in="1h"), await api.submit(start_in="1h")
    answer = await ada.post("/act", action="cancel", ids=one, home=one, confirmed="1")
    query = answer.headers["location"].partition("?")[2]
    assert "Asked at" in (await ada.page(f"/jobs/{one}?{query}")).text
    assert "Asked at" not in (await ada.page(f"/jobs/{other}?{query}")).text
    assert "Asked at" not in (await ada.page(f"/jobs/{one}?outcome=x")).text
    async with visiting(api, "root", "admin") as root:
        assert "Asked at" not in (await root.page(f"/jobs/{one}?{query}")).text


async def test_a_long_history_is_told_from_its_end(api: Api, ada: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "CHANGES", 2)
    job_id = await api.submit(max_attempts=1)
    for attempt in range(2):
        await api.start(job_id, attempt)
        await api.finish(job_id, JobState.FAILED, attempt + 1)
        await api.http.post(f"/v1/jobs/{job_id}/retry")
    history = (await api.http.get(f"/v1/jobs/{job_id}/history")).json()["changes"]
    page = await ada.page(f"/jobs/{job_id}")
    assert f"{len(history) - 2} older entries are left out" in page.text
    assert len(page.named("li")) == 2


# Files


async def test_a_file_that_cannot_be_fetched_is_shown_without_a_link_and_why(api: Api, ada: Visitor) -> None:
    """It was written, so it is not passed over in silence."""
    job_id = await api.submit()
    folder = (await api.start(job_id)) / "work"
    (folder / "good").write_text("x")
    (folder / "back\\slash").write_text("x")
    (folder / "<b>\udcff").write_text("x")
    (folder / "folder\\" / "below").mkdir(parents=True)
    page = await ada.page(f"/jobs/{job_id}")
    assert [link.rpartition("/")[2] for link in file_links(page)] == ["good"]
    assert "back\\slash cannot be fetched by its name: it has a backslash in it" in page.text
    assert "<b>\\xff cannot be fetched by its name: it is not UTF-8" in page.text
    assert "folder\\ cannot be fetched" in page.text
    listed = (await api.http.get(f"/v1/jobs/{job_id}/files")).json()["items"]
    assert [item["path"] for item in listed] == ["good"]


async def test_what_only_was_put_there_is_marked(api: Api, ada: Visitor) -> None:
    job_id = await api.submit()
    folder = await api.start(job_id)
    for name in ("given", "changed", "made"):
        (folder / "work" / name).write_text("x")
    note_inputs(folder, [folder / "work" / name for name in ("given", "changed")])
    (folder / "work" / "changed").write_text("longer")
    text = (await ada.page(f"/jobs/{job_id}")).text
    assert re.findall(r"(changed|given|made) ?(input)?\d B", text) == [
        ("changed", ""),
        ("given", "input"),
        ("made", ""),
    ]


async def test_many_files_are_listed_from_the_first_and_counted(
    api: Api, ada: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filelist, "MOST", 3)
    job_id = await api.submit()
    assert not file_links(await ada.page(f"/jobs/{job_id}")), "it has not started"
    folder = (await api.start(job_id)) / "work"
    for n in range(5):
        (folder / f"f{n}").touch()
        (folder / f"b\\{n}").touch()
    page = await ada.page(f"/jobs/{job_id}")
    assert [link[-2:] for link in file_links(page)] == ["f0", "f1", "f2"]
    assert "and 2 more: hpcjobs download" in page.text
    assert "and 2 more that cannot be fetched" in page.text
    monkeypatch.setattr(files, "MOST_FILES", 4)
    page = await ada.page(f"/jobs/{job_id}")
    assert "too many files to list" in page.text
    assert not file_links(page)


async def test_a_list_that_took_long_is_kept_until_the_job_ends(
    api: Api, ada: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filelist, "_SHARE", 10**6)
    job_id = await api.submit()
    folder = (await api.start(job_id)) / "work"
    seen = []
    for name, quick in (("a", 1.0), ("b", 0.0), ("c", 0.0)):
        monkeypatch.setattr(filelist, "_QUICK", quick)
        (folder / name).touch()
        seen.append(len(file_links(await ada.page(f"/jobs/{job_id}"))))
    assert seen == [1, 2, 2]
    await api.finish(job_id)
    assert len(file_links(await ada.page(f"/jobs/{job_id}"))) == 3


# Queues


async def queue(api: Api, name: str) -> dict[str, Any]:
    items: list[dict[str, Any]] = (await api.http.get("/v1/queues")).json()["items"]
    return next(item for item in items if item["name"] == name)


async def test_a_form_that_is_refused_comes_back_as_it_was_typed(api: Api, operator: Visitor) -> None:
    """With what is wrong, at its queue, and nothing is set, not even what was right."""
    await operator.post("/queues", name="night", max_running="3", max_walltime="2h")
    await api.submit(queue="other")
    answer = await operator.post("/queues", name="night", max_running="5", max_walltime='"><b>soon')
    assert answer.status_code == 422
    page = read(answer)
    assert "Walltime: '\"><b>soon' is not a length of time" in page.text
    fields = {found["id"]: found for found in page.named("input") if found.get("id")}
    assert fields["running-night"]["value"] == "5"
    assert fields["walltime-night"]["value"] == '"><b>soon'
    assert [name for name, field in fields.items() if "aria-invalid" in field] == ["walltime-night"]
    assert [found["id"] for found in page.named("details") if "open" in found] == ["set-night"]
    assert "b" not in {tag for tag, _ in page.tags}
    assert (await queue(api, "night"))["max_running"] == 3
    page = read(await operator.post("/queues", new="1", name="a/b", max_running="7", max_walltime=""))
    assert page.values("max_running")[-1] == "7"
    assert "Name: 'a/b' cannot be a queue" in page.text


async def test_what_is_left_empty_is_no_limit_where_the_limit_was_shown_and_nothing_where_not(
    api: Api, operator: Visitor
) -> None:
    await operator.post("/queues", new="1", name="night", max_running="3", max_walltime="2h30m")
    await operator.post("/queues", new="1", name="night", max_running="4", max_walltime="")
    found = await queue(api, "night")
    assert (found["max_running"], found["max_walltime"]) == (4, 9000)
    page = await operator.page("/queues")
    assert "2h30m" in page.values("max_walltime")
    await operator.post("/queues", name="night", max_running="4", max_walltime="")
    assert (await queue(api, "night"))["max_walltime"] is None


async def test_queues_are_set_from_our_own_page_only(api: Api, operator: Visitor) -> None:
    await api.submit(queue="night")
    assert (await operator.post("/queues", csrf="x", name="night", paused="yes")).status_code == 403
    answer = await operator.http.post("/queues", data={"name": "night"}, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403
    assert not (await queue(api, "night"))["paused"]


async def test_many_queues_are_listed_from_the_first_and_counted(
    api: Api, ada: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        await api.submit(queue=name)
    monkeypatch.setattr(queues, "MOST", 2)
    page = await ada.page("/queues")
    assert [str(row["id"]) for row in page.named("tr") if row.get("id")] == ["queue-a", "queue-b"]
    assert "and 1 more" in page.text
