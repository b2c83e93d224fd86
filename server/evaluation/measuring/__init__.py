"""`mynah eval`: retrieval and answers of one system in figures, their thresholds and reports."""
