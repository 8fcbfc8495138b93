# `make demo` and `make test` set up a virtual environment on first use; both can be run again at any time.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?= auto

.PHONY: demo test lowest check site benchmark clean

demo: $(READY)
	$(BIN)/inspect-gan demo --out demo

test: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS)

# The tests with the oldest versions that are supported, in an environment of its own.
lowest:
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet --disable-pip-version-check --constraint tests/lowest.txt --editable ".[dev]"
	$(VENV)-lowest/bin/python -m pytest -n $(WORKERS)

# Type checking needs the packages as they are installed: a folder of links puts models, datasets and tools in place.
check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf $(VENV)/typing && mkdir -p $(VENV)/typing/inspect_gan
	ln -s $(CURDIR)/inspect_gan/* $(CURDIR)/models $(CURDIR)/datasets $(CURDIR)/tools $(VENV)/typing/inspect_gan
	cd $(VENV)/typing && ../bin/python -m mypy --config-file $(CURDIR)/pyproject.toml -p inspect_gan

# The documentation as a site in site/; anything MkDocs warns of is an error.
site: $(READY)
	$(BIN)/python -m mkdocs build --strict --quiet

# Speed and memory beside a peer, which is installed into the user's cache folder on first use.
benchmark: $(READY)
	$(BIN)/inspect-gan benchmark --out benchmark.json

$(READY): setup.py pyproject.toml
	@echo "Setting up $(VENV): downloads PyTorch and the other packages, a few minutes the first time."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $(READY)

clean:
	rm -rf $(VENV) $(VENV)-lowest demo site build *.egg-info
