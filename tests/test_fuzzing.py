"""Tests of the fuzzer's targets: they fit the parsers as they are now. Fuzzing itself is `scripts/fuzz`."""

from contextlib import suppress
import json

import pytest

from scripts.fuzzing.json_mutator import JsonMutator
from scripts.fuzzing.target import BrokenPromiseError, Target, hold
from scripts.fuzzing.targets import ALL

MUTATIONS = 100


@pytest.mark.parametrize("target", ALL, ids=lambda target: target.name)
def test_seeds(target: Target) -> None:
    """Every parser keeps its promises for what is right, and takes some of it."""
    taken = 0
    for seed in target.seeds():
        with suppress(*target.refusals):
            target.run(seed)
            taken += 1
    assert taken


@pytest.mark.parametrize("target", [target for target in ALL if target.tree], ids=lambda target: target.name)
def test_first_changes(target: Target) -> None:
    """Every parser keeps its promises for the first changes to that, too."""
    seeds = list(target.seeds())
    mutator = JsonMutator(target.words, lambda data, most: data[: most // 2])
    for number in range(MUTATIONS):
        with suppress(*target.refusals):
            target.run(mutator(seeds[number % len(seeds)], 16_384, number))


def test_mutator() -> None:
    """Change a tree into others that are JSON, the same ones for the same number, and no longer than they may be."""
    data = b'{"a":[1,{"b":"c"}],"d":null}'
    mutator = JsonMutator(("word",), lambda _, most: b" " * (most + 1))
    changed = [mutator(data, 200, number) for number in range(500)]
    assert changed == [mutator(data, 200, number) for number in range(500)]
    as_trees = [each for each in changed if len(each) <= 200]
    assert len(as_trees) > 300
    assert len({json.dumps(json.loads(each)) for each in as_trees}) > 100
    assert any(b"word" in each for each in as_trees)


@pytest.mark.parametrize("data", [b"", b"{", b"1" * 5000, b"[" * 20_000])
def test_mutator_of_what_is_no_tree(data: bytes) -> None:
    """Leave to the fuzzer what cannot be read."""
    assert {JsonMutator((), lambda *_: b"bytes")(data, 100, number) for number in range(20)} == {b"bytes"}


def test_broken_promise() -> None:
    """Tell which promise was broken."""
    hold("kept", kept=True)
    with pytest.raises(BrokenPromiseError, match="broken"):
        hold("broken", kept=False)
