"""`mynah eval make`: questions drafted from documents by rules, for a person to review."""
