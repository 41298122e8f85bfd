"""Real MQTT brokers with accounts and TLS, behind one interface."""

from .amqtt import AmqttBroker
from .base import HOME_ASSISTANT, Account, Broker
from .mosquitto import MosquittoBroker

__all__ = ["HOME_ASSISTANT", "Account", "AmqttBroker", "Broker", "MosquittoBroker"]
