"""The HTTP face: what each call does, and how it is answered."""
