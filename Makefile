# Two commands: `make demo` shows the whole road on built-in data, `make test` is what CI runs.
.PHONY: demo test bench check-onnx check-tensorboard clean

BIN := target/debug
DEMO := runs/demo
# Digits read one way; the search is short because the data are easy.
SEED ?= 1
SET := --set augment.flip=false --seed $(SEED)

demo:
	cargo build --workspace
	rm -rf $(DEMO)
	$(BIN)/milenas-search run --data digits --out $(DEMO)/search $(SET) --set search.epochs=5
	$(BIN)/milenas-search train --genotype $(DEMO)/search/genotype.json --data digits --out $(DEMO)/network $(SET) --set train.epochs=10
	$(BIN)/milenas-export $(DEMO)/network/weights.safetensors -o $(DEMO)/model.onnx
	$(BIN)/milenas-infer evaluate $(DEMO)/model.onnx digits
	@echo "the network is $(DEMO)/model.onnx; next: $(BIN)/milenas-export inspect $(DEMO)/model.onnx"

test:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo build --workspace
	cargo test --workspace
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	$(MAKE) check-onnx
	$(MAKE) check-tensorboard

# The kernels as ratios to their slow forms: criterion's measurements, then a table.
bench:
	cargo bench -p milenas-models

# The exported files under the onnx package's full check, in ONNX Runtime and in OpenVINO; needs python3 with venv.
check-onnx: .venv/ready
	cargo build --workspace
	.venv/bin/python tests/onnxruntime_check.py $(BIN)

# The event files of a search and of a training, killed and resumed, read by the tensorboard package.
check-tensorboard: .venv/ready
	cargo build --workspace
	.venv/bin/python tests/tensorboard_check.py $(BIN)

.venv/ready: tests/requirements.txt
	python3 -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	touch $@

clean:
	rm -rf target .venv runs
