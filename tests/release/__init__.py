"""What is given to sites."""
