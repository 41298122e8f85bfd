"""Changes to a JSON text that leave it one: what a mutation of bytes hardly ever does."""

from collections.abc import Callable, Iterator
import copy
import json
import random
from typing import Any, Final

_SCALARS: Final[tuple[Any, ...]] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    0.5,
    -0.0,
    1e308,
    2**31,
    2**53,
    2**53 + 1,
    -(2**63),
    2**64,
    10**400,
    float("inf"),
    float("nan"),
    "",
    " ",
    "0",
    "\0",
    "\n",
    "\u2028",
    "\ud800",
    "\U0001f331",
    "x" * 65,
    "x" * 5000,
    [],
    {},
    [[[[[0]]]]],
    {"a": {"a": {"a": {"a": 1}}}},
)
_BYTES_IN: Final = 4
_MOST_CHANGES: Final = 4

type Place = tuple[Any, Any]


class JsonMutator:
    """Change one of four inputs as bytes, and the others as trees."""

    def __init__(self, words: tuple[str, ...], as_bytes: Callable[[bytes, int], bytes]) -> None:
        self._words = words
        self._as_bytes = as_bytes

    def __call__(self, data: bytes, most: int, seed: int) -> bytes:
        """Return another input, not longer than `most`."""
        generator = random.Random(seed)  # noqa: S311 - repeatable
        if generator.randrange(_BYTES_IN) == 0:
            return self._as_bytes(data, most)
        try:
            holder = [json.loads(data)]
            for _ in range(generator.randint(1, _MOST_CHANGES)):
                self._change(holder, generator)
            changed = json.dumps(holder[0], separators=(",", ":"), ensure_ascii=generator.random() < 0.5).encode()  # noqa: PLR2004 - half of them
        except ValueError, ArithmeticError, RecursionError:
            return self._as_bytes(data, most)
        return changed if len(changed) <= most else self._as_bytes(data, most)

    def _change(self, holder: list[Any], generator: random.Random) -> None:
        places = list(_places(holder))
        container, key = generator.choice(places)
        match generator.randrange(6):
            case 0:
                container[key] = self._value(generator)
            case 1 if container is not holder:
                del container[key]
            case 2:
                other, at = generator.choice(places)
                container[key] = copy.deepcopy(other[at])
            case 3 if isinstance(container, dict):
                name = generator.choice((*self._words, *container)) if generator.randrange(8) else _text(key, generator)
                container[name] = container.pop(key)
            case 4 if isinstance(container[key], dict):
                container[key][generator.choice(self._words or ("a",))] = self._value(generator)
            case 4 if isinstance(container[key], list):
                container[key].insert(generator.randint(0, len(container[key])), self._value(generator))
            case _:
                container[key] = _near(container[key], generator)

    def _value(self, generator: random.Random) -> Any:
        if self._words and generator.randrange(3) == 0:
            return generator.choice(self._words)
        return copy.deepcopy(generator.choice(_SCALARS))


def _places(container: Any) -> Iterator[Place]:
    for key in container if isinstance(container, dict) else range(len(container)):
        yield container, key
        if isinstance(container[key], dict | list):
            yield from _places(container[key])


def _near(value: Any, generator: random.Random) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + generator.choice((-1, 1, -value * 2, value * 9, 0.5))
    if isinstance(value, float):
        return value * generator.choice((-1.0, 1.0000001, 10.0, 1e300))
    if isinstance(value, str):
        return _text(value, generator)
    return [value] if generator.randrange(2) else {"a": value}


def _text(text: str, generator: random.Random) -> str:
    at = generator.randint(0, len(text))
    odd = generator.choice(("\0", ".", "/", "-", "\u00e9", "\ud800", "\n", " ", "A", "0", ":", "\\", '"'))
    return generator.choice((text[:at] + odd + text[at:], text[:at] + text[at + 1 :], text[:at], text + text, odd))
