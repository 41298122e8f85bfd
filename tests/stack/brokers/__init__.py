"""Real MQTT brokers with accounts and TLS, behind one interface."""

from .amqtt import AmqttBroker
from .base import HOME_ASSISTANT, Account, Broker
from .dynamic import ADMIN, DynamicMosquittoBroker
from .mosquitto import MosquittoBroker

__all__ = [
    "ADMIN",
    "HOME_ASSISTANT",
    "Account",
    "AmqttBroker",
    "Broker",
    "DynamicMosquittoBroker",
    "MosquittoBroker",
]
