"""Tests of who asks: the order of the classes, and what the audit trail is told."""

from custom_components.grokmon.gateway.principals import Caller, Principal, system


def test_priorities() -> None:
    """The system comes before people, people before automations, those before voice, and the AI last."""
    assert sorted(Caller, key=lambda caller: caller.rank) == ["system", "person", "automation", "voice", "ai"]


def test_principal_for_the_audit() -> None:
    """Leave out what is empty; a rule of the hub is the system."""
    assert system("smoke").as_dict() == {"caller": "system", "identity": "smoke"}
    script = Principal(caller=Caller.AI, identity="u", via="script.x", reason="dry", approved_by="boss")
    assert script.as_dict() == {
        "caller": "ai",
        "identity": "u",
        "via": "script.x",
        "reason": "dry",
        "approved_by": "boss",
    }
