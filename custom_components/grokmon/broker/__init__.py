"""The broker: accounts for devices, certificates, and a probe of what it really enforces."""
