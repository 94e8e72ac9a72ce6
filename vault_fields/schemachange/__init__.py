"""Changes of the schema that would leave encrypted values without what opens them: found, counted and refused."""
