"""Conversations from a teacher: seeds and passages in, provenance-marked rows out."""
