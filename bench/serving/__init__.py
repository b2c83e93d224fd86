"""Mynah beside the servers of llama.cpp: `python -m bench.serving --help`."""
