# `just` lists the recipes; `just check` must pass before every commit.
bin := justfile_directory() / ".venv/bin"
export PATH := bin + ":" + justfile_directory() + "/.tools/bin:" + env("PATH")

default:
    @just --list

check: fmt-check lint types arch gen-check docs-check test

fmt:
    ruff format . && ruff check --fix --quiet . || true

fmt-check:
    ruff format --check --quiet .

lint:
    ruff check --quiet .
    codespell --quiet-level 3 $(git ls-files '*.md' '*.py' '*.proto')

types:
    mypy

arch:
    lint-imports --no-logo

gen:
    uv run --no-project --quiet scripts/gen_proto.py
    python scripts/gen_phone_lengths.py

gen-check:
    uv run --no-project --quiet scripts/gen_proto.py --check
    python scripts/gen_phone_lengths.py --check

# docs/configuration.md from the config dataclasses
docs:
    python scripts/gen_config_docs.py

docs-check:
    python scripts/gen_config_docs.py --check

test *args:
    python -m pytest -n auto {{ args }}

# every test, the slow ones and foreign peers included, with coverage
test-all *args:
    coverage run -m pytest -m "" {{ args }}
    coverage report --skip-covered

# the tests of the data path against a copy of the tree whose hot path is compiled (docs/adr/0034)
test-compiled directory=".compiled/tests" *args:
    python scripts/build_compiled.py {{ directory }}
    cd {{ directory }} && PYTHONPATH=.:proto python -m pytest -q {{ args }} tests/sidecar tests/policies/airlock tests/policies/test_pipeline.py tests/observability
