"""Say what is missing on this machine."""


class ComponentMissingError(Exception):
    """Say that a program is not installed."""
