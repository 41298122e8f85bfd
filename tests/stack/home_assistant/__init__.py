"""A real Home Assistant on loopback, and clients for its interfaces."""

from .flows import FlowFailedError, Flows
from .rest import ApiError, RestClient
from .server import HomeAssistant
from .websocket import CommandFailedError, Subscription, WebSocketClient

__all__ = [
    "ApiError",
    "CommandFailedError",
    "FlowFailedError",
    "Flows",
    "HomeAssistant",
    "RestClient",
    "Subscription",
    "WebSocketClient",
]
