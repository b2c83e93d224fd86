"""What may not be trained on is taken out, with a reason for every row."""
