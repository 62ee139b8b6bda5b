"""What an interface is: the types of WIT, their Python names and images, and where they are read from."""
