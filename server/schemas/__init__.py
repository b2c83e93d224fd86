"""What requests may hold and what replies look like."""
