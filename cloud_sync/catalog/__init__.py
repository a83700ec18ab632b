"""What is stored where, and how far each gateway has come."""
