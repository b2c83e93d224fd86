"""Blind pairwise preference: one schema for people and for a judging model."""
