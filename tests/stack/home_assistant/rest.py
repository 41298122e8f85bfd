"""Speak Home Assistant's REST interface."""

from http import HTTPStatus
from typing import Any

import aiohttp


class ApiError(Exception):
    """Say that Home Assistant refused a request, with its status and what it answered."""

    def __init__(self, method: str, path: str, status: int, body: str) -> None:
        super().__init__(f"{method} {path}: {status} {body}")
        self.status = status
        self.body = body


class RestClient:
    """Make requests with a token."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str | None = None) -> None:
        self._session = session
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def request(self, method: str, path: str, **arguments: Any) -> Any:
        """Make a request and return the answer's JSON, or its text where it is none."""
        # Home Assistant's MCP server insists on being told.
        headers = {"Accept": "application/json", **self._headers}
        async with self._session.request(method, self._url + path, headers=headers, **arguments) as response:
            if response.status >= HTTPStatus.BAD_REQUEST:
                raise ApiError(method, path, response.status, await response.text())
            return await (response.json() if response.content_type == "application/json" else response.text())

    async def get(self, path: str) -> Any:
        """Get a resource."""
        return await self.request("GET", path)

    async def post(self, path: str, body: Any = None) -> Any:
        """Post a JSON body."""
        return await self.request("POST", path, json=body if body is not None else {})

    async def delete(self, path: str) -> Any:
        """Delete a resource."""
        return await self.request("DELETE", path)

    async def states(self) -> list[dict[str, Any]]:
        """Return all states."""
        states: list[dict[str, Any]] = await self.get("/api/states")
        return states

    async def state(self, entity_id: str) -> dict[str, Any] | None:
        """Return one state, or nothing where there is no such entity."""
        try:
            state: dict[str, Any] = await self.get(f"/api/states/{entity_id}")
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        return state

    async def call_service(
        self, domain: str, service: str, data: dict[str, Any] | None = None, *, return_response: bool = False
    ) -> dict[str, Any]:
        """Call a service and return its response where one is asked for, else nothing."""
        path = f"/api/services/{domain}/{service}" + ("?return_response" if return_response else "")
        answer = await self.post(path, data)
        response: dict[str, Any] = answer["service_response"] if return_response else {}
        return response

    async def upload(self, name: str, content: bytes) -> str:
        """Upload a file for a flow and return its id."""
        form = aiohttp.FormData()
        form.add_field("file", content, filename=name)
        answer = await self.request("POST", "/api/file_upload", data=form)
        return str(answer["file_id"])
