# Two commands on a fresh machine: `make demo` and `make test`. They need Python 3.11+, git and make, nothing else.
PYTHON ?= python3
UV_VERSION := 0.13.8
UV := .tools/bin/uv
export UV_PYTHON_DOWNLOADS = never
export UV_PYTHON = $(PYTHON)
# The virtual environment of this checkout is used whatever the caller has activated.
unexport VIRTUAL_ENV

.PHONY: demo test interop setup check compiled clean
demo: setup  ## everything on one machine: prompts with PHI through the official SDKs, and the proof
	.venv/bin/aegis demo $(ARGS)

test: setup  ## the fast suite
	.venv/bin/python -m pytest -n auto $(ARGS)

interop: setup  ## TLS, ECH and QUIC against Go, NSS, BoringSSL, rustls, qh3 and Chromium, which it installs; ends in a matrix
	bash .ci/install-tls-peers
	.venv/bin/python -m pytest -q -m "" tests/transport/interop $(ARGS)

check: setup  ## what every commit must pass: format, lint, types, architecture, generated files, tests
	.venv/bin/just check

compiled: setup  ## .venv/bin/aegis with its hot path compiled, as a production image would have it; `make setup` undoes it
	rm -rf .compiled/wheel
	HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 $(UV) build --quiet --wheel --out-dir .compiled/wheel .
	$(UV) pip install --quiet --python .venv/bin/python --no-deps --reinstall .compiled/wheel/*.whl
	@rm -f .venv/.synced; .venv/bin/python -P -c 'import sidecar.exchange as it; print("installed:", it.__file__)'

setup: .venv/.synced

.venv/.synced: uv.lock pyproject.toml | $(UV)
	$(UV) sync --frozen --extra demo --extra gateway --extra mcp --extra redis --extra quic --quiet
	@touch $@

$(UV):
	$(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

clean:
	rm -rf .venv .tools .compiled .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
