"""Checkpoints: how far the audit trail goes, signed, so that it can be told from another one for ever."""

from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from .audit import Position, checkpoint_text, note


class Signer:
    """Sign checkpoints with an Ed25519 key, as signed notes (C2SP signed-note, tlog-checkpoint)."""

    def __init__(self, private: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(private)
        self.public_key = self._private.public_key().public_bytes_raw()
        self.origin = f"grokmon/audit/{self.public_key[:8].hex()}"

    def __call__(self, position: Position, now: float) -> str:
        """Return the checkpoint of a place in the trail."""
        at = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
        text = checkpoint_text(self.origin, position, at)
        return note(self.origin, text, self.public_key, self._private.sign(text.encode()))
