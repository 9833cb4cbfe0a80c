"""Tables and their provenance."""
