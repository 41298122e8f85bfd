"""Forms of the audit trail: its settings, and its key, which is shown once."""

from base64 import b64encode
from typing import Any, Final

from homeassistant.const import UnitOfTime
from homeassistant.helpers.selector import BooleanSelector, TextSelector
import probatio

from .access import actor
from .anchors import (
    CONF_ANCHOR_CA_FILE,
    CONF_ANCHOR_FILE,
    CONF_ANCHOR_NOTIFICATION,
    CONF_ANCHOR_SYSLOG,
    CONF_ANCHOR_URL,
)
from .audit_log import AuditLog
from .const import CONF_RETENTION, DEFAULT_RETENTION
from .forms import number, qr_code

AUDIT_OPTIONS: Final = probatio.Schema(
    {
        probatio.Required(CONF_RETENTION, default=DEFAULT_RETENTION): probatio.All(
            number(30, 3650, UnitOfTime.DAYS, whole=True), probatio.Coerce(int)
        ),
        probatio.Optional(CONF_ANCHOR_URL): TextSelector(),
        probatio.Optional(CONF_ANCHOR_SYSLOG): TextSelector(),
        probatio.Optional(CONF_ANCHOR_FILE): TextSelector(),
        probatio.Optional(CONF_ANCHOR_CA_FILE): TextSelector(),
        probatio.Required(CONF_ANCHOR_NOTIFICATION, default=False): BooleanSelector(),
    }
)
AUDIT_FIELDS: Final = frozenset(str(field) for field in AUDIT_OPTIONS.schema)


async def async_new_key_form(audit: AuditLog) -> dict[str, Any]:
    """Give the trail a new key, and return what shows it in a flow's form, once. Raises OSError.

    It is shown as text and as a QR code, with the public key that checkpoints are signed by.
    """
    text = (await audit.async_new_key(actor())).to_text()
    return {
        "data_schema": probatio.Schema({probatio.Optional("qr"): qr_code(text)}),
        "description_placeholders": {"key": text, "public_key": b64encode(audit.signer.public_key).decode()},
    }
