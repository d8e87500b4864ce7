"""What is found out about a model before it is served: that it works, how fast it is, and where settings name it."""
