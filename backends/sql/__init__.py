"""The SQL database behind adapters of several ports: its engine, its dialects, its migrations."""
