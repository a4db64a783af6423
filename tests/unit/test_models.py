"""What is asked, and what is said where it cannot be."""

from __future__ import annotations

import pytest

from hpcjobs.errors import InvalidSpec
from hpcjobs.lifecycle import ACTIVE
from hpcjobs.models import JobFilter, JobSpec, Resources


@pytest.mark.parametrize("more", [{}, {"cores": 2}], ids=["alone", "beside flat ones"])
@pytest.mark.parametrize("resources", ["big", 5, ["cores"], True], ids=repr)
def test_resources_that_are_none_are_a_problem_of_that_field(resources, more):
    with pytest.raises(InvalidSpec) as caught:
        JobSpec.parse({"command": "x", "resources": resources, **more})
    assert [field for field, _ in caught.value.problems] == ["resources"]


@pytest.mark.parametrize("resources", [None, {}, {"cores": 3}, Resources(cores=3)], ids=repr)
def test_resources_beside_the_other_fields_go_before_nested_ones(resources):
    assert JobSpec.parse({"command": "x", "resources": resources, "cores": 2}).resources.cores == 2


@pytest.mark.parametrize("value", [True, 5, 1.5], ids=repr)
@pytest.mark.parametrize("name", ["state", "tag"])
def test_a_condition_that_is_none_is_a_problem_of_that_field(name, value):
    with pytest.raises(InvalidSpec) as caught:
        JobFilter.parse({name: value})
    assert {field.partition(".")[0] for field, _ in caught.value.problems} == {name}


@pytest.mark.parametrize("asked", ["active", ["active"], ("active", "active")])
def test_a_group_of_states_may_be_asked_for_alone_or_in_a_list(asked: object) -> None:
    assert set(JobFilter(state=asked).state) == ACTIVE
