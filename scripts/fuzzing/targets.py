"""Every target."""

from typing import Final

from . import at_rest_targets, choice_targets, envelope_targets, gateway_targets, key_targets
from .target import Target

ALL: Final[tuple[Target, ...]] = (
    *envelope_targets.TARGETS,
    *gateway_targets.TARGETS,
    *key_targets.TARGETS,
    *at_rest_targets.TARGETS,
    *choice_targets.TARGETS,
)
BY_NAME: Final = {target.name: target for target in ALL}
