"""The soak: a whole installation under load for an hour, with everything that goes wrong, and what it leaves behind."""
