"""The SQLite file of a keystore: connections, tables, pages and errors."""
