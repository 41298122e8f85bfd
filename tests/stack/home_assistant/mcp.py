"""Call tools as a language model outside does: through Home Assistant's own MCP server."""

import json
from typing import Any

from .server import HomeAssistant

_PATH = "/api/mcp"


async def call_tool(hass: HomeAssistant, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Call a tool and return what the model gets. Home Assistant has the MCP server set up."""
    params = {"name": name, "arguments": arguments}
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    answer = await hass.rest.post(_PATH, request)
    content: dict[str, Any] = json.loads(answer["result"]["content"][0]["text"])
    return content
