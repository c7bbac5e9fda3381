"""How does one state become one tree? The only place where tensors meet objects."""
