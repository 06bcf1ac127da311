"""Policies and their history in SQL. The only package that imports SQLAlchemy and Alembic."""
