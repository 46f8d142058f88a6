# The developer's verbs. Set-up is stamped: it runs again only when setup.py changes.

VENV := .venv
BIN := $(VENV)/bin
CONFIG := etc/pbx.toml
CODE := pbx plugins etc tests bench tools setup.py
WEB := pbx/http/static/.stamp

.PHONY: run test lint types bench news reference debian clean

# Compiled where there is a C compiler, pure Python elsewhere; PURE=1 asks for the latter.
COMPILED := $(CURDIR)/$(VENV)/compiled
run: $(VENV)/.stamp-run $(WEB)
	@mkdir -p var
	@if [ -z "$(PURE)" ] && $(BIN)/python tools/compiled.py build "$(COMPILED)"; then \
		PYTHONPATH="$(COMPILED)" exec $(BIN)/twistd -n pbx -c $(CONFIG); \
	else \
		exec $(BIN)/twistd -n pbx -c $(CONFIG); \
	fi

test: debian $(VENV)/.stamp-test $(WEB)
	$(BIN)/python tools/run_tests.py $(TESTS)

lint: $(VENV)/.stamp-test
	$(BIN)/ruff check $(wildcard $(CODE))
	$(BIN)/ruff format --check $(wildcard $(CODE))
	$(BIN)/lint-imports

types: $(VENV)/.stamp-test
	$(BIN)/mypy

bench: debian-bench $(VENV)/.stamp-test
	$(BIN)/python -m bench.run $(ARGS)

# docs/configuration.md from the settings dataclasses.
reference: $(VENV)/.stamp-test
	$(BIN)/python tools/reference.py docs/configuration.md

# Fold newsfragments/ into CHANGELOG.md: make news VERSION=0.2.0
news:
	python3 tools/news.py $(VERSION)

# Programs that the tests drive; only root can install them, others skip what needs them.
debian:
	@sh tools/debian.sh test

.PHONY: debian-bench
debian-bench:
	@sh tools/debian.sh bench

$(VENV)/.stamp-run: setup.py pyproject.toml tools/virtualenv.sh
	sh tools/virtualenv.sh $(VENV) .
	@touch $@

$(VENV)/.stamp-test: setup.py pyproject.toml tools/virtualenv.sh
	sh tools/virtualenv.sh $(VENV) '.[test]'
	@touch $@ $(VENV)/.stamp-run

# The web phone. Not an error without npm: see tools/web.sh.
.PHONY: web dist
web: $(WEB)
$(WEB): tools/web.sh web/package-lock.json web/build.mjs web/tsconfig.json \
		$(shell find web/src -type f 2>/dev/null)
	@sh tools/web.sh $@

# What to install elsewhere, with the pages in it.
dist: $(VENV)/.stamp-run $(WEB)
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w dist .

clean:
	rm -rf $(VENV) build dist pbx/http/static web/node_modules *.egg-info .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
	find . -name dropin.cache -delete
