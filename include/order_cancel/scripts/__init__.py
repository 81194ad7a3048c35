"""The contract a script sees, and the separate process in which scripts and mappings run."""
