"""Do what a person does at the first start of Home Assistant."""

import aiohttp

from tests.stack.brokers.base import Account

from .rest import RestClient
from .websocket import WebSocketClient

_TOKEN_DAYS = 365


async def onboard(session: aiohttp.ClientSession, url: str, owner: Account) -> str:
    """Create the owner, finish the onboarding and return a long-lived token of the owner."""
    client = f"{url}/"
    user = await RestClient(session, url).post(
        "/api/onboarding/users",
        {
            "client_id": client,
            "name": owner.username.capitalize(),
            "username": owner.username,
            "password": owner.password,
            "language": "en",
        },
    )
    form = {"client_id": client, "grant_type": "authorization_code", "code": user["auth_code"]}
    token = (await RestClient(session, url).request("POST", "/auth/token", data=form))["access_token"]
    rest = RestClient(session, url, token)
    # The step about analytics only says that the question was put: nothing is sent unless somebody agrees.
    await rest.post("/api/onboarding/analytics")
    await rest.post("/api/onboarding/integration", {"client_id": client, "redirect_uri": f"{client}?auth_callback=1"})
    websocket = await WebSocketClient.connect(session, url, token)
    try:
        return str(
            await websocket.call("auth/long_lived_access_token", client_name="grokmon stack", lifespan=_TOKEN_DAYS)
        )
    finally:
        await websocket.close()
