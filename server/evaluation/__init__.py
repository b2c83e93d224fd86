"""Answers under four conditions, measured, and the report of style against knowledge."""
