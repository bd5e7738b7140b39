"""Pure parsers of what tools print and export."""
