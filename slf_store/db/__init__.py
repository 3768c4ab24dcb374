"""PostgreSQL: tables, engine, embedded server, bulk COPY, roles."""
