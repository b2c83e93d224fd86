"""Training of small models that imitate one narrow behaviour: quote the answer, cite, refuse."""
