"""What does a person type? One file per command; it parses, calls one function and prints."""
