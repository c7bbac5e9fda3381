"""What is a run? Live torch objects to plain nested state and back; nothing here touches a file."""
