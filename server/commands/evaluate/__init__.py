"""`mynah eval`: measure on one's own questions, and draft such questions."""
