"""What a target of the fuzzer is, and how it says that a promise was broken."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from custom_components.grokmon.gateway.errors import GatewayError


class BrokenPromiseError(Exception):
    """A parser took what it should refuse, or made something else of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A parser. `refusals` are the errors that it documents; `words` are what its inputs are made of.

    The inputs of a `tree` are JSON texts, which are changed as trees, too.
    """

    name: str
    run: Callable[[bytes], object]
    seeds: Callable[[], Iterable[bytes]]
    refusals: tuple[type[Exception], ...] = (GatewayError,)
    words: tuple[str, ...] = ()
    tree: bool = False


def hold(promise: str, *, kept: bool) -> None:
    """Raise BrokenPromiseError unless a promise was kept."""
    if not kept:
        raise BrokenPromiseError(promise)


def refused[T](act: Callable[[], T], *errors: type[Exception]) -> T | None:
    """Return what an act returns, or None where it raises one of these errors, by default the gateway's."""
    with suppress(*(errors or (GatewayError,))):
        return act()
    return None
