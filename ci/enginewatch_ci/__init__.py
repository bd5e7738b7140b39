"""Statistics, verdicts and reports of enginewatch."""
