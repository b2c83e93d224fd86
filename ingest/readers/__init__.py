"""One reader for each format; `registry` chooses among them."""
