"""The expert's side: a request goes out, labels come back."""
