"""The description of the API, made from the schemas that the service itself uses."""
