"""Walk through Home Assistant's flows as its frontend does."""

from typing import Any

from .rest import RestClient


class FlowFailedError(Exception):
    """Say that a flow did not come to its end, with the step that it stopped at."""


class Flows:
    """Start and continue the flows of one kind."""

    def __init__(self, rest: RestClient, path: str) -> None:
        self._rest = rest
        self._path = path

    async def start(self, handler: str | list[str], **context: Any) -> dict[str, Any]:
        """Start a flow and return its first step."""
        step: dict[str, Any] = await self._rest.post(self._path, {"handler": handler, **context})
        return step

    async def submit(self, flow_id: str, answer: dict[str, Any] | None = None) -> dict[str, Any]:
        """Answer the current step of a flow and return the next one."""
        step: dict[str, Any] = await self._rest.post(f"{self._path}/{flow_id}", answer)
        return step

    async def current(self, flow_id: str) -> dict[str, Any]:
        """Return the current step of a flow again."""
        step: dict[str, Any] = await self._rest.get(f"{self._path}/{flow_id}")
        return step

    async def abandon(self, flow_id: str) -> None:
        """End a flow without a result."""
        await self._rest.delete(f"{self._path}/{flow_id}")

    async def walk(self, handler: str | list[str], *answers: dict[str, Any], **context: Any) -> dict[str, Any]:
        """Start a flow, give all answers and return the result, which must be an entry."""
        step = await self.start(handler, **context)
        for answer in answers:
            if "flow_id" not in step or step["type"] not in {"form", "menu"}:
                raise FlowFailedError(f"there is no step for {answer}: {step}")
            step = await self.submit(step["flow_id"], answer)
        if step["type"] != "create_entry":
            raise FlowFailedError(f"no entry came out: {step}")
        return step
