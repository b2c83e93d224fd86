"""Sentences and words of a text, the same for serving and for training."""
