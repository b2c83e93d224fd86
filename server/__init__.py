"""HTTP, command line, settings and the grounding of answers."""
