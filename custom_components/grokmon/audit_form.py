"""Forms of the audit trail: its settings, and its key, which is shown once."""

from base64 import b64encode
from typing import Any, Final

from homeassistant.const import UnitOfTime
from homeassistant.helpers.selector import (
    BooleanSelector,
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    QrCodeSelector,
    QrCodeSelectorConfig,
    QrErrorCorrectionLevel,
    TextSelector,
)
import probatio

from .anchors import (
    CONF_ANCHOR_CA_FILE,
    CONF_ANCHOR_FILE,
    CONF_ANCHOR_NOTIFICATION,
    CONF_ANCHOR_SYSLOG,
    CONF_ANCHOR_URL,
)
from .const import CONF_RETENTION, DEFAULT_RETENTION
from .gateway.audit import Key

AUDIT_OPTIONS: Final = probatio.Schema(
    {
        probatio.Required(CONF_RETENTION, default=DEFAULT_RETENTION): probatio.All(
            NumberSelector(
                NumberSelectorConfig(
                    min=30, max=3650, step=1, mode=NumberSelectorMode.BOX, unit_of_measurement=UnitOfTime.DAYS
                )
            ),
            probatio.Coerce(int),
        ),
        probatio.Optional(CONF_ANCHOR_URL): TextSelector(),
        probatio.Optional(CONF_ANCHOR_SYSLOG): TextSelector(),
        probatio.Optional(CONF_ANCHOR_FILE): TextSelector(),
        probatio.Optional(CONF_ANCHOR_CA_FILE): TextSelector(),
        probatio.Required(CONF_ANCHOR_NOTIFICATION, default=False): BooleanSelector(),
    }
)
AUDIT_FIELDS: Final = frozenset(str(field) for field in AUDIT_OPTIONS.schema)


def audit_key_form(key: Key, public_key: bytes) -> tuple[probatio.Schema, dict[str, Any]]:
    """Return the form that shows a key as text and as a QR code, with the public key that checkpoints are signed by."""
    text = key.to_text()
    qr = QrCodeSelector(QrCodeSelectorConfig(data=text, scale=5, error_correction_level=QrErrorCorrectionLevel.MEDIUM))
    return probatio.Schema({probatio.Optional("qr"): qr}), {
        "key": text,
        "public_key": b64encode(public_key).decode(),
    }
