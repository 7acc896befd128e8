"""Which upstreams may answer, in which order."""

from __future__ import annotations

from dataclasses import replace

from gateway.core.routing.routes import Roles, Route, StreamUsage, Timeouts, routes_for


def route(name: str, *models: str, priority: int = 0) -> Route:
    """A route of which only name, patterns and priority matter."""
    timeouts = Timeouts(1, 1, 1, 1, 1)
    return Route(name, "http://h/v1", "", models or ("*",), priority, Roles.OPEN, StreamUsage.ASK, timeouts, 0)


def test_patterns_choose_and_priority_orders() -> None:
    """Lower priority first; equal ones in configured order."""
    routes = [route("c", priority=2), route("b", "gpt-4*"), route("a"), route("d", "claude-*", priority=-1)]

    assert [found.name for found in routes_for("gpt-4o", routes)] == ["b", "a", "c"]
    assert [found.name for found in routes_for("claude-x", routes)] == ["d", "a", "c"]


def test_a_call_that_names_no_model_may_go_anywhere() -> None:
    """Files, batches, models: every route, best first."""
    routes = [route("b", "x", priority=1), route("a", "y")]

    assert [found.name for found in routes_for(None, routes)] == ["a", "b"]


def test_patterns_are_exact_about_case() -> None:
    """Model names are identifiers."""
    assert routes_for("GPT-4o", [route("a", "gpt-*")]) == []


def test_an_alias_is_served_beside_the_patterns() -> None:
    """Exactly by its name: a deployment's name is no pattern."""
    routes = [replace(route("azure", "o3"), aliases=(("gpt-4*", "dep"), ("gpt-5", "dep")))]

    assert [len(routes_for(model, routes)) for model in ("o3", "gpt-5", "gpt-4*", "gpt-4o")] == [1, 1, 1, 0]
