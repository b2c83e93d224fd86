"""Messages to grounded answers: prompt, candidates, quoting, attribution and abstention."""
