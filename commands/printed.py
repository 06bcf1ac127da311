"""What commands print for programs. Imports nothing heavy: most commands need it."""

import json

import click


def print_json(value: object) -> None:
    """One document on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
