"""One named SQL statement per file; ``enginewatch_db.connect.Reader`` runs them."""
