"""What lies on a disk, where somebody may have changed it: the audit trail, its checkpoints, keys and vault."""

from base64 import b64encode
from collections.abc import Iterator
import io
import json
from secrets import token_bytes
from typing import Any, Final

from custom_components.grokmon import kek
from custom_components.grokmon.gateway import audit, audit_record
from custom_components.grokmon.gateway.audit_export import FORMATS
from custom_components.grokmon.gateway.checkpoints import Signer
from custom_components.grokmon.gateway.vault import KEK_BYTES, Vault, VaultError
from tests.gateway.wire import NOW

from .target import Target, hold, refused

_KEY: Final = audit.Key(1, b"the first key of a trail".ljust(audit.KEY_BYTES))
_SIGNER: Final = Signer(b"a key that signs checkpoints".ljust(32))
# Another one each time: what was sealed in an earlier run must not count as forged.
_VAULT: Final = Vault(token_bytes(KEK_BYTES))
_OWNER: Final = "device tent-1"
# Of the 50 millions that a verification has: a forged number may cost as much of a run of the fuzzer, in proportion.
_MOST_SKIPPED: Final = 20_000


def _record(action: str, **details: Any) -> dict[str, Any]:
    return audit_record.make(
        action,
        wall=NOW,
        mono=1.0,
        boot="boot",
        principal=None,
        target={"device": "tent-1"},
        outcome="done",
        reason="",
        cid=None,
        details=details,
    )


def _written(records: list[dict[str, Any]]) -> tuple[bytes, audit.Position]:
    """Return the lines for records, with the key that evolves, and the place after them."""
    end, secret, lines = audit.Position(), _KEY.secret, b""
    for record in records:
        line, end = audit.append(end, secret, record)
        secret, lines = audit.evolve(secret), lines + line
    return lines, end


_TRAIL, _END = _written(
    [
        _record("enrolled", auth="signed"),
        _record(audit.SEGMENT_DELETED, first=1, through=1, head="0" * 64),
        _record("command", params={"percent": 50.0}),
        _record(audit.KEY_CHANGED),
        _record("interlock", detail="a \u2028 b"),
    ]
)


def _verifier(keys: tuple[audit.Key, ...], anchors: tuple[audit.Position, ...]) -> audit.Verifier:
    verifier = audit.Verifier(keys, anchors)
    verifier._spare = _MOST_SKIPPED  # noqa: SLF001 - see there
    return verifier


def _trail(data: bytes) -> None:
    """Verify lines with and without what was kept elsewhere."""
    lines = list(io.BytesIO(data))
    for keys, anchors in (((), ()), ((), (_END,)), ((_KEY,), (_END, audit.Position(2, "0" * 64)))):
        verifier = _verifier(keys, anchors)
        verifier.feed(lines[:2], last=False)
        verifier.feed(lines[2:])
        hold("at most so many findings", kept=len(verifier.report().findings) <= 100)  # noqa: PLR2004 - documented
    verifier = _verifier((_KEY,), (_END,))
    verifier.feed(lines)
    good = verifier.report().result is audit.Verdict.GOOD
    hold("what was changed is found", kept=not good or data == _TRAIL)


def _trails() -> Iterator[bytes]:
    yield _TRAIL
    lines = list(io.BytesIO(_TRAIL))
    yield b"".join(lines[1:])
    yield b"".join([*lines[:2], *lines[3:]])
    yield b"".join([lines[0], lines[2], lines[1]])
    yield _TRAIL[:-9]
    yield lines[0] + lines[4].replace(b'"n":5', b'"n":999999999999999')


def _sealed(data: bytes) -> None:
    """Verify records that somebody wrote who has the key."""
    records = refused(lambda: json.loads(data), ValueError, RecursionError)
    if not isinstance(records, list) or not all(isinstance(each, dict) for each in records):
        return
    written = refused(lambda: _written(records), ValueError)
    if written is not None:
        lines, end = written
        verifier = _verifier((_KEY,), (end,))
        verifier.feed(io.BytesIO(lines))
        hold("written and anchored", kept=verifier.report().anchored == end.count)
        _search(lines)


def _records() -> Iterator[bytes]:
    records = [json.loads(line) for line in io.BytesIO(_TRAIL)]
    plain = [{name: value for name, value in each.items() if name not in {"n", "prev", "mac"}} for each in records]
    yield json.dumps(plain).encode()


def _search(data: bytes) -> None:
    """Search lines, and write what is found for other programs."""
    lines = list(io.BytesIO(data))
    for wanted in (audit_record.Search(), audit_record.Search(start=NOW - 1, end=NOW + 1, device="tent-1")):
        found = list(audit_record.search(lines, wanted, 100))
        for write in FORMATS.values():
            write(found).encode()


def _checkpoints(data: bytes) -> None:
    """Read checkpoints that were kept elsewhere."""
    whole = audit.whole_checkpoints(data)
    hold("no more than there is", kept=0 <= whole <= len(data) * 3)
    for each in audit.checkpoints(data.decode()):
        signed = each.signed_by(_SIGNER.public_key)
        hold("only what we signed is signed", kept=not signed or each.text in _NOTES)


_NOTES: Final = "".join(_SIGNER(audit.Position(count, f"{count:064x}"), NOW) for count in range(3))


def _notes() -> Iterator[bytes]:
    yield _NOTES.encode()
    yield _NOTES.replace("\n\n\u2014", "\nmore\n\n\u2014").encode()


def _key_text(data: bytes) -> None:
    """Read keys as people and environments hand them in."""
    text = data.decode(errors="surrogateescape")
    key = refused(lambda: audit.Key.from_text(text), ValueError)
    if key is not None:
        hold("32 bytes", kept=len(key.secret) == audit.KEY_BYTES and key.start > 0)
        # The last character of base64url has bits to spare: a key has more than one text, a text one key.
        hold("its own text", kept=audit.Key.from_text(key.to_text()) == key)
    parsed = refused(lambda: kek._parse(text, "here"), kek.KekError)  # noqa: SLF001 - what is fuzzed
    hold("32 bytes", kept=parsed is None or len(parsed) == KEK_BYTES)
    opened = refused(lambda: _VAULT.unseal(text, _OWNER), VaultError)
    hold("only what was sealed", kept=opened is None or text == _SEALED)
    frame = refused(lambda: _VAULT.unseal_bytes(data, _OWNER), VaultError)
    hold("only the frame that was sealed", kept=frame is None or data == _FRAME)


_SEALED: Final = _VAULT.seal(b"a secret", _OWNER)
_FRAME: Final = _VAULT.seal_bytes(b"a row", _OWNER)


def _key_texts() -> Iterator[bytes]:
    yield _KEY.to_text().encode()
    yield b"ab" * KEK_BYTES
    yield b64encode(b"k" * KEK_BYTES)
    yield _SEALED.encode()
    yield _SEALED.replace("1.", "9" * 5000 + ".", 1).encode()
    yield _VAULT.seal(b"a secret", "device tent-2").encode()
    yield _FRAME


_WORDS: Final = (
    *('{"n":', '"prev":"', ',"mac":"', '"}\n', '"action":"audit_', audit.KEY_CHANGED, audit.SEGMENT_DELETED),
    *("at", "mono", "boot", "principal", "action", "object", "outcome", "reason", "cid", "details", "through", "head"),
    *("device", "zone", "identity", "caller", "2026-11-22T10:00:00.000Z", "0001-01-01T00:00:00", "0" * 64),
)
TARGETS: Final = (
    Target(name="trail", run=_trail, seeds=_trails, refusals=(), words=_WORDS),
    Target(name="sealed_trail", run=_sealed, seeds=_records, refusals=(), words=_WORDS, tree=True),
    Target(name="search", run=_search, seeds=lambda: io.BytesIO(_TRAIL), refusals=(), words=_WORDS, tree=True),
    Target(name="checkpoints", run=_checkpoints, seeds=_notes, refusals=(ValueError,), words=("\n\n\u2014 ", "\n")),
    Target(name="key_text", run=_key_text, seeds=_key_texts, refusals=(), words=("1.", "=", "-", _VAULT.key_id)),
)
