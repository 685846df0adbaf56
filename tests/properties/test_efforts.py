"""How a level of effort is rounded to those that a model knows."""

from hypothesis import given
from hypothesis import strategies as st

from modelhub.options import EFFORTS
from modelhub.providers.known_models import KNOWN_MODELS
from modelhub.providers.parameters import EFFORT_BUDGETS, round_effort

LEVELS = st.lists(st.sampled_from(EFFORTS), min_size=1, unique=True)
EFFORT = st.sampled_from(EFFORTS)


@given(EFFORT, LEVELS)
def test_a_rounded_effort_is_one_the_model_knows(effort, levels):
    """It is one of the levels, the nearest of its kind, and rounding it again changes nothing."""
    rounded = round_effort(effort, levels)
    assert rounded in levels
    assert round_effort(rounded, levels) == rounded
    kind = [level for level in levels if (level == "none") == (effort == "none")] or levels
    distance = {level: abs(EFFORTS.index(level) - EFFORTS.index(effort)) for level in kind}
    assert distance[rounded] == min(distance.values())


@given(EFFORT, EFFORT, LEVELS)
def test_more_effort_is_never_rounded_to_less(one, other, levels):
    """Of two efforts the higher one stays at least as high."""
    low, high = sorted((one, other), key=EFFORTS.index)
    thinking = [level for level in levels if level != "none"]
    if low == "none" and "none" not in levels:
        low = "minimal"  # where nothing is no choice, it is as little as there is
    if thinking and (low != "none" or high != "none"):
        assert EFFORTS.index(round_effort(low, levels)) <= EFFORTS.index(round_effort(high, levels))


@given(EFFORT.filter(lambda effort: effort != "none"), LEVELS)
def test_a_model_that_can_think_is_never_told_not_to(effort, levels):
    """An effort becomes `none` only where there is nothing else."""
    assert (round_effort(effort, levels) == "none") == (set(levels) == {"none"})


def test_more_effort_is_a_larger_budget():
    """Budgets grow with the levels."""
    assert list(EFFORT_BUDGETS) == list(EFFORTS[1:])
    assert sorted(set(EFFORT_BUDGETS.values())) == list(EFFORT_BUDGETS.values())


def test_every_row_of_the_table_says_where_it_is_from():
    """What is known of models can be looked up."""
    assert all(row.source for row in KNOWN_MODELS)
    assert all(set(row.efforts or ()) <= set(EFFORTS) for row in KNOWN_MODELS)
