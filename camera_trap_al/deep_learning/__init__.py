"""Neural networks, their training and the data they see. The only part of the package that needs torch."""
