"""Conversations from files of other formats; what is dropped is counted."""
