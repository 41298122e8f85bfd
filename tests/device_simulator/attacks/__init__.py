"""The catalogue of attacks: what hostile devices send, and the code with which each of it must be refused.

Attacks on the content are made by an insider: an enrolled device with a valid session that was taken over, so that
nothing but the check of the content stands in the way. Everything else is made by whoever can reach the broker.
"""

from . import content, entrance, freshness
from .scene import Attack, Forgery, Scene

ATTACKS: tuple[Attack, ...] = (
    *entrance.CATALOGUE.attacks,
    *freshness.CATALOGUE.attacks,
    *content.CATALOGUE.attacks,
)

__all__ = ["ATTACKS", "Attack", "Forgery", "Scene"]
