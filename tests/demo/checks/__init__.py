"""What `scripts/demo --check` looks at, one module for each promise."""
