"""The page that shows the API, as a package that adds routes."""
