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
PATH = Path("settings.json")
SETTINGS = ("device_id", "prefix", "key", "site_public_key", "actuators", "client_id", "token", "path")
# Whoever has none of these speaks over HTTP only.
AT_BROKER = ("key", "site_public_key", "username")


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


def written(settings: dict[str, Any]) -> str:
    """Return the settings as they are kept, with places for what only the user knows about the broker."""
    kept = {name: settings[name] for name in SETTINGS if name in settings}
    if "token" not in settings or not settings.keys().isdisjoint(AT_BROKER):
        account = {"username": settings.get("username", "USER"), "password": settings.get("password", "PASSWORD")}
        kept |= {"host": "BROKER", "port": 8883, **account, "ca_file": "ca.crt"}
    return json.dumps(kept, indent=2)


def main() -> None:
    """Claim and keep. The code works once, so everything that can be wrong is looked at before."""
    try:
        _, home_assistant, code = sys.argv
    except ValueError:
        raise SystemExit(__doc__) from None
    try:
        # Where nobody else can read it.
        file = os.fdopen(os.open(PATH, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w")
    except OSError as error:
        raise SystemExit(f"{PATH} cannot be made: {error.strerror}; the code is not used up") from error
    try:
        with file:
            file.write(written(claim(home_assistant, code)))
    except BaseException as error:
        PATH.unlink()
        raise SystemExit(_why(error)) from error
    print(f"{PATH} is written: fill in what stands there in capitals")


def _why(error: BaseException) -> str:
    match error:
        case HTTPError():
            return f"Home Assistant refuses it: {error.code} {error.read().decode()}"
        case URLError():
            return f"Home Assistant is not reached: {error.reason}"
        case ValueError() | KeyError():
            return "give the text of the claim code, in quotes"
        case _:
            return str(error)


if __name__ == "__main__":
    main()
