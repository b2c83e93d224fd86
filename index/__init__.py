"""What is kept and found: SQLite rows, FAISS vectors and hybrid search over them."""
