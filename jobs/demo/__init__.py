"""A day in the mall: the shipped sample replayed through the HTTP API of a running system, and proved to add up."""
