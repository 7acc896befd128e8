"""What tools, formats and choices cost beside their texts: the table, by family, endpoint, day and company."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.tokens.frames import Counted, Surroundings, choice_tokens, frame_of, frame_sections
from gateway.core.tokens.profiles import Family
from gateway.core.wire.request import Endpoint

CHAT, RESPONSES = Endpoint.CHAT, Endpoint.RESPONSES
GPT_4O, GPT_5, O_SERIES = Family.GPT_4O, Family.GPT_5, Family.O
TOOLS = {"tools": Counted(100)}
FORMAT = {"response_format": Counted(50, name_tokens=3)}
HOSTED = {"tools": Counted(300, is_text=False)}
ALONE, JOINED = Surroundings(), Surroundings(joint_tokens=1)

FRAMES = {
    "tools": (GPT_4O, CHAT, TOOLS, ALONE, {"tools": 103}),
    "tools behind a system message": (GPT_4O, CHAT, TOOLS, JOINED, {"tools": 100}),
    "tools behind a full stop": (GPT_4O, CHAT, TOOLS, Surroundings(joint_tokens=0), {"tools": 99}),
    "tools of gpt-5": (GPT_5, CHAT, TOOLS, ALONE, {"tools": 185}),
    "tools of gpt-5 behind a system message": (GPT_5, CHAT, TOOLS, JOINED, {"tools": 185}),
    "tools of the o-series": (O_SERIES, CHAT, TOOLS, ALONE, {"tools": 104}),
    "a function without description, gpt-4o": (
        GPT_4O,
        CHAT,
        {"tools": Counted(100, undescribed=2)},
        ALONE,
        {"tools": 103},
    ),
    "a function without description, gpt-5": (
        GPT_5,
        CHAT,
        {"tools": Counted(100, undescribed=2)},
        ALONE,
        {"tools": 183},
    ),
    "hosted tools have no frame": (GPT_4O, RESPONSES, HOSTED, ALONE, {"tools": 300}),
    "a format": (GPT_4O, CHAT, FORMAT, ALONE, {"response_format": 50 + 4 + 5}),
    "a format behind a system message": (GPT_4O, CHAT, FORMAT, JOINED, {"response_format": 50 + 1 + 5}),
    "a format marks past answers": (GPT_4O, CHAT, FORMAT, Surroundings(None, 2), {"response_format": 50 + 4 + 3 * 5}),
    "a format behind tools": (GPT_4O, CHAT, TOOLS | FORMAT, ALONE, {"tools": 103, "response_format": 51}),
    "a format behind tools, past answers": (
        GPT_4O,
        CHAT,
        TOOLS | FORMAT,
        Surroundings(1, 2),
        {"tools": 100, "response_format": 51 + 2 * 5},
    ),
    "a format of gpt-5": (GPT_5, CHAT, FORMAT, ALONE, {"response_format": 50 + 1 + 5}),
    "JSON mode": (GPT_4O, CHAT, {"response_format": Counted(0, is_text=False)}, JOINED, {"response_format": 0}),
    "tools on Responses": (GPT_4O, RESPONSES, TOOLS, ALONE, {"tools": 97}),
    "tools on Responses, gpt-5": (GPT_5, RESPONSES, TOOLS, ALONE, {"tools": 103}),
    "tools on Responses, o-series": (O_SERIES, RESPONSES, TOOLS, ALONE, {"tools": 100}),
    "one call at a time on Responses, gpt-5": (
        GPT_5,
        RESPONSES,
        TOOLS,
        Surroundings(is_one_by_one=True),
        {"tools": 181},
    ),
    "a format on Responses": (GPT_4O, RESPONSES, {"text": Counted(50, 3)}, ALONE, {"text": 51}),
    "a format on Responses, gpt-5": (GPT_5, RESPONSES, {"text": Counted(50, 3)}, ALONE, {"text": 50}),
    "others are as they are": (GPT_4O, RESPONSES, {"input": Counted(7, is_text=False)}, ALONE, {"input": 7}),
}


@pytest.mark.parametrize(("family", "endpoint", "counted", "around", "sections"), FRAMES.values(), ids=FRAMES)
def test_a_section_costs_its_text_and_its_frame(family, endpoint, counted, around, sections):
    """Hand-checked against recorded bills."""
    assert frame_sections(frame_of(family, endpoint), counted, around) == sections


CHOICES = [
    (GPT_4O, CHAT, "auto", 0, 0),
    (GPT_4O, CHAT, "required", 0, 0),
    (GPT_4O, CHAT, "none", 0, 1),
    (GPT_4O, CHAT, {"type": "function"}, 5, 9),
    (GPT_4O, CHAT, {"type": "allowed_tools"}, 0, 0),
    (GPT_5, CHAT, {"type": "function"}, 5, 0),
    (GPT_4O, RESPONSES, "required", 0, 9),
    (GPT_4O, RESPONSES, {"type": "function"}, 12, 16),
    (GPT_5, RESPONSES, "required", 0, 0),
]


@pytest.mark.parametrize(("family", "endpoint", "choice", "name_tokens", "tokens"), CHOICES)
def test_a_choice_costs_what_its_family_says(family, endpoint, choice, name_tokens, tokens):
    assert choice_tokens(frame_of(family, endpoint), choice, name_tokens) == tokens


DAYS = {
    "the endpoint's first month": ("2025-03-20", 100 + 195, 18, 0),
    "before choices cost anything": ("2025-06-10", 97, 0, 0),
    "since then": ("2026-03-01", 97, 0, 9),
}


@pytest.mark.parametrize(("day", "tools", "hidden", "required"), DAYS.values(), ids=DAYS)
def test_bills_of_the_past_follow_the_prices_of_their_day(day, tools, hidden, required):
    frame = frame_of(GPT_4O, RESPONSES, datetime.date.fromisoformat(day))

    assert frame_sections(frame, TOOLS, ALONE) == {"tools": tools}
    assert (frame.hidden_tokens, choice_tokens(frame, "required", 0)) == (hidden, required)


def test_without_a_day_the_last_prices_hold():
    assert frame_of(GPT_4O, RESPONSES) == frame_of(GPT_4O, RESPONSES, datetime.date(2100, 1, 1))


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("endpoint", [CHAT, RESPONSES])
def test_every_family_has_a_frame(family, endpoint):
    assert frame_of(family, endpoint)


@given(st.sampled_from(Family), st.sampled_from([CHAT, RESPONSES]), st.integers(0, 10**6), st.integers(0, 10**6))
def test_frames_are_additive(family, endpoint, tokens, more):
    """A longer text costs exactly that much more."""
    frame = frame_of(family, endpoint)
    short, long = (frame_sections(frame, {"tools": Counted(n)}, JOINED)["tools"] for n in (tokens, tokens + more))

    assert long - short == more
