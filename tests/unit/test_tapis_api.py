"""The parts of the Tapis API that touch nothing: conditions, patterns, tokens, times, faults."""

from __future__ import annotations

import contextlib
import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcjobs.tapis_data import time_text
from hpcjobs_server.api.tapis.callers import unwrapped, wrapped
from hpcjobs_server.api.tapis.finding import conditions
from hpcjobs_server.api.tapis.records import file_inputs, native_id
from hpcjobs_server.api.tapis.sentences import BadSentence, read_sentence
from hpcjobs_server.faults import Fault, FaultKind, Faults
from hpcjobs_server.problems import Problem
from hpcjobs_server.store import BadSearch, Every, Order, Search, Some
from hpcjobs_server.store import Test as Term


def test_conditions_of_an_address_are_split_at_commas_that_are_not_meant() -> None:
    """A backslash keeps one; parameters of the list are no conditions, in any case of their letters."""
    asked = [("Limit", "5"), ("orderBy", "name"), ("tags.in", r"a\,b,c"), ("name.eq", "a,b"), ("owner", "ada")]
    assert conditions(asked) == Every(
        (Term("tags", "IN", ("a,b", "c")), Term("name", "EQ", ("a,b",)), Term("owner", "EQ", ("ada",)))
    )
    assert conditions([("pretty", "true")]) is None


@pytest.mark.parametrize(
    ("asked", "pattern"),
    [("a*", "a%"), ("a!", "a_"), ("50%_*", r"50\%\_%"), (r"a\*b", "a*b"), (r"a\%", r"a\%"), (r"\\", r"\\")],
)
def test_a_pattern_of_tapis_is_one_of_sql(asked: str, pattern: str) -> None:
    """Signs that SQL has and Tapis has not mean just themselves."""
    assert conditions([("name.like", asked)]) == Every((Term("name", "LIKE", (pattern,)),))


def test_and_binds_closer_than_or() -> None:
    """As in SQL."""
    assert read_sentence("a = 1 OR b = 2 AND c = 3") == Some(
        (Term("a", "EQ", ("1",)), Every((Term("b", "EQ", ("2",)), Term("c", "EQ", ("3",)))))
    )


def test_ids_are_looked_up_by_their_index() -> None:
    """As they are in the table, and by a bare comparison."""
    ids = ["6f9e8f0b-6a0b-4b3a-8d53-cb3d2a8f9b8a-007", "7f9e8f0b-6a0b-4b3a-8d53-cb3d2a8f9b8a-007"]
    search = Search(conditions([("uuid.in", ",".join(ids))]), Order())
    assert search.where == "((j.id IN (%(v0)s::uuid, %(v1)s::uuid)))"
    assert [f"{value}-007" for value in search.parameters.values()] == ids
    with pytest.raises(BadSearch, match="a UUID with -007 behind it"):
        Search(conditions([("uuid.eq", ids[0].removesuffix("-007"))]), Order())


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing else happens."""
    with contextlib.suppress(BadSentence):
        read_sentence(text)


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",))))
def test_a_value_is_never_part_of_the_sql(text: str) -> None:
    """It travels as a parameter, wherever it came from."""
    quoted = text.replace("'", "''")
    condition = read_sentence(f"name = '{quoted}'")
    search = Search(condition, Order())
    assert list(search.parameters.values()) == [text]
    assert search.where == Search(read_sentence("name = 'x'"), Order()).where


@pytest.mark.parametrize(
    ("condition", "order"),
    [
        (Term("nope", "EQ", ("1",)), Order()),
        (Term("name", "SOUNDS", ("1",)), Order()),
        (Term("name", "BETWEEN", ("1",)), Order()),
        (Term("visible", "GT", ("true",)), Order()),
        (Term("memoryMB", "EQ", ("9" * 30,)), Order()),
        (Term("memoryMB", "LIKE", ("1",)), Order()),
        (Term("name", "CONTAINS", ("1",)), Order()),
        (Term("tags", "LIKE", ("1",)), Order()),
        (None, Order((("nope", False),))),
        (None, Order((("tags", False),))),
        (None, Order((), "x")),
    ],
)
def test_a_search_that_cannot_be_made_is_refused(condition: Any, order: Order) -> None:
    """Before anything is asked of the database."""
    with pytest.raises(BadSearch):
        Search(condition, order)


def test_a_token_looks_like_a_jwt_and_is_what_its_third_part_says() -> None:
    """What the payload says is not believed."""
    end = dt.datetime(2100, 1, 1, tzinfo=dt.timezone.utc)
    jwt, _ = wrapped("hpcjobs_x", owner="ada", tenant="dev", kind="access", expires_at=end, issuer="http://x")
    assert unwrapped(jwt) == ("hpcjobs_x", False)
    assert unwrapped("hpcjobs_x") == ("hpcjobs_x", False)
    for text in ("a.b.c", "..", "e30.e30.c2ln", "e30.W10.c2ln", "\u00e9.e30.c2ln", "e30.eyJleHAiOiJ4In0.c2ln"):
        with pytest.raises(Problem) as refused:
            unwrapped(text)
        assert refused.value.status == 401


@pytest.mark.parametrize(
    ("micro", "text"),
    [(0, "2026-05-01T00:00:00Z"), (120000, "2026-05-01T00:00:00.12Z"), (1, "2026-05-01T00:00:00.000001Z")],
)
def test_times_have_as_many_digits_as_they_need(micro: int, text: str) -> None:
    """From none to six, in UTC."""
    assert time_text(dt.datetime(2026, 5, 1, 2, microsecond=micro, tzinfo=dt.timezone(dt.timedelta(hours=2)))) == text


def test_only_an_id_of_tapis_is_one() -> None:
    """It ends in the number for jobs."""
    native = "6f9e8f0b-6a0b-4b3a-8d53-cb3d2a8f9b8a"
    assert native_id(native + "-007") == native
    for text in (native, native + "-007-007", native.upper() + "-007", native + "-007\n", ""):
        assert native_id(text) is None


def test_inputs_of_an_array_are_told_one_by_one() -> None:
    """Each with the name that it gets."""
    arrays = [{"sourceUrls": ["tapis://s/d/a", "tapis://s/b"], "targetDir": "t/"}]
    told = file_inputs({"fileInputs": [{"sourceUrl": "tapis://s/x"}], "fileInputArrays": arrays})
    assert [one.get("targetPath") for one in told] == [None, "t/a", "t/b"]


def test_a_fault_comes_as_often_as_was_asked_for_and_where() -> None:
    """Others of its kind come after it."""
    faults = Faults()
    faults.put(
        [
            Fault(kind=FaultKind.SLOW, times=2, path="/v3/jobs/list"),
            Fault(kind=FaultKind.SLOW, times=None, method="POST"),
        ]
    )
    assert faults.take(FaultKind.HTML_502, "/v3/jobs/list", "GET") is None
    assert faults.take(FaultKind.SLOW, "/v3/jobs/x", "GET") is None
    for _ in range(2):
        assert faults.take(FaultKind.SLOW, "/v3/jobs/list", "GET") is not None
    assert faults.take(FaultKind.SLOW, "/v3/jobs/list", "GET") is None
    for _ in range(5):
        assert faults.take(FaultKind.SLOW, "/v3/jobs/list", "POST") is not None
    assert [fault.times for fault in faults.items] == [None]
