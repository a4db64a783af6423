"""One job's page in a real browser: the log that its script follows, and what stays while the rest is drawn anew."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

from playwright.sync_api import expect

from hpcjobs import Client
from hpcjobs.records import QueueOrder
from tests.browser.job_page import OpenPage
from tests.running import Service

PIECES = (
    b"\n\nfirst\n",
    b"10%\r20%\r",
    b"30%",
    b"\r40%\r\nbars\n",
    "12\u00a0345 \u202eevil\u2066 é🙂".encode()[:-2],
    "🙂".encode()[-2:] + b"\n\x1b[3",
    b"1mred\x1b[0m\n\x1b]0;no end\n",
    b"still there\n\x07bell\n\n\n",
    b"\xff\xfe\n50%\r",
    b"60%\r",
)
"""Of a log: cut in characters, in escape sequences and in lines that are overwritten."""


def test_a_log_that_comes_in_pieces_is_shown_as_one_that_was_there(
    open_page: OpenPage, shared_client: Client, tmp_path: Path
) -> None:
    """What the page's script makes of it is what the service makes of it: a progress bar is its last state."""
    gate = tmp_path / "gate"
    gate.mkdir()
    for n, piece in enumerate(PIECES):
        (tmp_path / f"piece{n}").write_bytes(piece)
    wait = f"while [ ! -e {gate}/$n ]; do sleep 0.02; done"
    steps = f"for n in $(seq 0 {len(PIECES) - 1}); do {wait}; cat {tmp_path}/piece$n; done"
    job = shared_client.submit(steps, name="pieces")
    page = open_page(f"jobs/{job.id}").live()
    log = page.page.locator(".log")
    expect(page.page.locator("[data-told]")).to_have_text("nothing yet")
    for n in range(len(PIECES)):
        with page.page.expect_response(lambda answer: "/logs/" in answer.url and answer.status == 206) as got:
            (gate / str(n)).touch()
        got.value.finished()
    job.wait(progress=False)
    expect(log).to_contain_text("60%")
    expect(page.page.locator("[data-told]")).to_have_text("")
    followed = log.text_content()
    assert page.open(f"jobs/{job.id}").page.locator(".log").text_content() == followed
    assert followed == (
        "\n\nfirst\n40%\nbars\n12\u00a0345 \ufffdevil\ufffd é🙂\nred\n0;no end\nstill there\n\ufffdbell\n\n\n"
        "\ufffd\ufffd\n60%"
    )


def test_a_log_that_grew_by_much_goes_on_near_its_end(
    open_page: OpenPage, shared_client: Client, tmp_path: Path
) -> None:
    """At the beginning of a line, without a gap after it; and the page says that it is not all."""
    flood, gate = tmp_path / "flood", tmp_path / "gate"
    flood.write_text("".join(f"{number}\n" for number in range(1, 1_200_001)) + "the end of it\n")
    job = shared_client.submit(f"echo begun; while [ ! -e {gate} ]; do sleep 0.02; done; cat {flood}", name="flood")
    page = open_page(f"jobs/{job.id}").live()
    log = page.page.locator(".log")
    expect(log).to_have_text("begun")
    gate.touch()
    expect(log).to_contain_text("the end of it")
    lines = (log.text_content() or "").split("\n")
    assert lines[-2:] == ["the end of it", ""]
    numbers = [int(line) for line in lines[:-2]]
    assert numbers == list(range(numbers[0], 1_200_001))
    assert 1000 < len(numbers) < 200_000
    expect(page.page.locator("[data-told]")).to_have_text(re.compile(r"the end of \d+(\.\d)? MiB"))


def test_a_reason_that_is_typed_survives_while_the_page_is_drawn_anew(
    open_page: OpenPage, shared_client: Client
) -> None:
    """And what can be done no more goes, form and all, as soon as it cannot."""
    job = shared_client.submit("for i in $(seq 1000); do echo step $i of 1000; sleep 0.2; done", name="steps")
    next(iter(job.logs(follow=True)))
    page = open_page(f"jobs/{job.id}").live()
    progress = page.page.locator(".head .progress")
    page.page.locator("#ask-cancel summary").click()
    page.page.get_by_label("Reason").fill("half ty")
    before = progress.inner_text()
    expect(progress).not_to_have_text(before.strip())
    page.page.keyboard.type("ped")
    expect(page.page.get_by_label("Reason")).to_have_value("half typed")
    expect(page.page.get_by_label("Reason")).to_be_focused()
    job.cancel(reason="elsewhere", confirm=30)
    expect(page.page.locator("#ask-cancel")).to_have_count(0)
    expect(page.page).to_have_title("CANCELLED · steps · hpcjobs")
    expect(page.page.locator("#ask-retry")).to_be_visible()


def test_a_selection_in_a_log_survives_while_it_grows(open_page: OpenPage, shared_client: Client) -> None:
    """Who wants to copy a line from a log that follows has the time to do it."""
    job = shared_client.submit("for i in $(seq 1000); do echo line $i.; sleep 0.1; done", name="talks")
    next(iter(job.logs(follow=True)))
    page = open_page(f"jobs/{job.id}").live()
    expect(page.page.locator(".log")).to_contain_text("line 5.")
    selected = page.page.evaluate(
        "() => { getSelection().setBaseAndExtent(document.querySelector('.log').firstChild, 0,"
        " document.querySelector('.log').firstChild, 6); return getSelection().toString(); }"
    )
    last = (page.page.locator(".log").text_content() or "").count("\n")
    expect(page.page.locator(".log")).to_contain_text(f"line {last + 3}.")
    assert page.page.evaluate("getSelection().toString()") == selected != ""
    job.cancel()


def test_a_limit_that_nobody_has_typed_is_that_of_now(
    open_page: OpenPage, shared_client: Client, shared_service: Service
) -> None:
    """Whoever sets one of two limits does not set the other back to what it was when the page was loaded."""
    name = f"q{uuid.uuid4().hex[:8]}"
    with shared_service.client() as operator:
        operator.run(operator.service.set_queue(name, QueueOrder(max_running=3)))
        page = open_page("queues", token=shared_service.token).live()
        page.page.locator(f"#set-{name} summary").click()
        page.page.locator(f"#walltime-{name}").fill("9h")
        operator.run(operator.service.set_queue(name, QueueOrder(max_running=5)))
        shared_client.submit("true", start_in="1h")  # the page is told of it
        expect(page.page.locator(f"#running-{name}")).to_have_value("5")
        expect(page.page.locator(f"#walltime-{name}")).to_have_value("9h")
