"""Fetch the settings of a new device with its claim code, once.

python claim.py https://homeassistant.local:8123 '{"device_id": …}'
"""

import json
import os
from pathlib import Path
import sys
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

SECONDS = 30
SETTINGS = ("device_id", "prefix", "key", "site_public_key", "actuators", "username", "password")


def claim(home_assistant: str, code: str) -> dict[str, Any]:
    """Return the settings of a device for the text that Home Assistant shows, which its QR code holds, too."""
    if not home_assistant.startswith(("https://", "http://127.0.0.1:")):
        raise SystemExit("settings are fetched over HTTPS only")
    wanted = json.loads(code)
    body = json.dumps({"device_id": wanted["device_id"], "code": wanted["code"]}).encode()
    request = Request(home_assistant.rstrip("/") + wanted["path"], body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=SECONDS) as answer:
        settings: dict[str, Any] = json.load(answer)
    return settings


def keep(settings: dict[str, Any], path: str = "settings.json") -> None:
    """Write the settings where nobody else can read them, with places for where the broker is."""
    known = {name: settings[name] for name in SETTINGS if name in settings}
    broker = {"host": "BROKER", "port": 8883, "ca_file": "ca.crt"}
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(known | broker, file, indent=2)


def main() -> None:
    """Claim and keep. The code works once, so everything that can be wrong is looked at before."""
    try:
        _, home_assistant, code = sys.argv
    except ValueError:
        raise SystemExit(__doc__) from None
    if Path("settings.json").exists():
        raise SystemExit("settings.json is there already: move it away, the code is not used up")
    try:
        settings = claim(home_assistant, code)
    except HTTPError as error:
        raise SystemExit(f"Home Assistant refuses it: {error.code} {error.read().decode()}") from error
    except URLError as error:
        raise SystemExit(f"Home Assistant is not reached: {error.reason}") from error
    except (ValueError, KeyError) as error:
        raise SystemExit("give the text of the claim code, in quotes") from error
    keep(settings)
    print("settings.json is written: fill in where the broker is")


if __name__ == "__main__":
    main()
