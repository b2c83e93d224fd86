"""What computes: the llama.cpp engine, the embedder and the models' own tuning pipeline."""
