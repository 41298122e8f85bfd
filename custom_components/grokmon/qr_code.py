"""QR codes in forms: what a camera reads instead of a person."""

from homeassistant.helpers.selector import QrCodeSelector, QrCodeSelectorConfig, QrErrorCorrectionLevel


def qr_code(text: str) -> QrCodeSelector:
    """Return the field of a form that shows a text as a QR code."""
    return QrCodeSelector(
        QrCodeSelectorConfig(data=text, scale=5, error_correction_level=QrErrorCorrectionLevel.MEDIUM)
    )
