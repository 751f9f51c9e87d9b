# What each target does: docs/contributing.md. Only git, make and Python >= 3.11 are expected on the machine.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install install-dev demo prefect test test-long test-long-hands test-long-breaks test-long-rest coverage mutants soak
.PHONY: bench lint format lock clean

install: .venv/installed
install-dev: .venv/installed-dev
demo: install
	$(BIN)/hedgerow demo
# A local Prefect server, worker and schedule against the bundled simulator, until Ctrl-C; leaves prefect-demo/.
prefect: install
	$(BIN)/python -m flows.orchestration.demo
test: install-dev
	$(BIN)/python -m pytest -q -m "not long and not soak" -n 3 --dist worksteal --durations=10
# Make -j2 test-long runs them side by side: many hands last about as long as the two after them.
test-long: test-long-hands test-long-breaks test-long-rest coverage
test-long-hands: install-dev
	$(BIN)/python -m pytest -q -s -m long --timeout=9000 tests/flows/test_many_hands.py
test-long-breaks: install-dev
	$(BIN)/python -m pytest -q -m long -n 2 --timeout=900 tests/mutants
test-long-rest: install-dev /usr/bin/chromium
	$(BIN)/python -m pytest -q -m long --timeout=3600 --ignore=tests/flows/test_many_hands.py --ignore=tests/mutants
# Which branches the fast suite reaches; .coverage stays for coverage html.
coverage: install-dev
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q -m "not long and not soak" -n 3 --dist worksteal
	$(BIN)/coverage combine -q
	$(BIN)/coverage report
# Breaks that nobody chose, of the lines that changed since a commit: make mutants SINCE=HEAD~20 COUNT=60
SINCE ?= HEAD~10
COUNT ?= 40
mutants: install-dev
	$(BIN)/python -m tests.mutants.generated --since $(SINCE) --count $(COUNT)
# HEDGEROW_SOAK_SECONDS=60 make soak: a short one.
soak: install-dev
	$(BIN)/python -m pytest -q -s -m soak
bench: install-dev
	$(BIN)/python -m bench --docs docs/benchmarks.md --json build/bench.json
lint: install-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
format: install-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Pins and hashes of everything, without naming a registry's host. uv is needed only here: pip install uv.
lock:
	uv pip compile pyproject.toml --extra dev --universal --generate-hashes --no-emit-index-url --no-annotate --no-header -q -o requirements.lock
	uv pip compile pyproject.toml --universal --generate-hashes --no-emit-index-url --no-annotate --no-header -q -c requirements.lock -o requirements-run.lock

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hedgerow needs Python 3.11 or newer: make PYTHON=python3.11 install")'
	$(PYTHON) -m venv .venv
# The lock is complete, so pip resolves nothing (--no-deps); pip check says if that were untrue.
.venv/installed: .venv/bin/python pyproject.toml requirements-run.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements-run.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .
	$(BIN)/python -m pip check --disable-pip-version-check
	touch $@
.venv/installed-dev: .venv/bin/python pyproject.toml requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .
	$(BIN)/python -m pip check --disable-pip-version-check
	touch $@ .venv/installed

# The browser test's browser. Debian's, because a browser of its own is not for Playwright to download.
/usr/bin/chromium:
	apt-get update -qq && apt-get install -y -qq chromium

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.*
