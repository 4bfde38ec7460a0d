"""The stages of a case. Each stage measures some of its samples, in a window that no other stage uses."""
