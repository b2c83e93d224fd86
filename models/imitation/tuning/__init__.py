"""Tuning of Hugging Face checkpoints, and their export as GGUF."""
