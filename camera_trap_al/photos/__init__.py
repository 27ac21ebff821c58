"""Photos: found in folders, decoded once, and when and where they were taken. No torch."""
