"""Pure figure builders."""
