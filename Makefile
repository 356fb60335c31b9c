# `make demo` searches, trains, exports and evaluates on built-in data. `make test` runs everything that CI runs.
.PHONY: demo test bench docs fuzz check-consumers check-examples check-package check-cuda check-neon check-onnx check-parquet check-tract check-tensorboard clean

TARGET := $(or $(CARGO_TARGET_DIR),target)
BIN := $(TARGET)/debug
DEMO := runs/demo
# A mirrored digit is not a digit, so images are not mirrored. The search is short because the data are easy.
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

# Property tests draw the same cases every time, so that a new failure is due to the change. `cargo test` draws new cases.
DRAWS ?= 1
test:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo build --workspace
	$(MAKE) .venv/ready .venv/photographs
	MILENAS_RUNTIMES=ort VIRTUAL_ENV=$(CURDIR)/.venv PROPTEST_RNG_SEED=$(DRAWS) cargo test --workspace
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	$(MAKE) check-examples
	$(MAKE) check-onnx
	$(MAKE) check-tensorboard
	$(MAKE) check-parquet
	$(MAKE) check-consumers
	$(MAKE) check-tract
	$(MAKE) check-cuda

# Speed of the kernels relative to their reference implementations: criterion's measurements, then a table.
bench:
	cargo bench -p milenas-models

# Fuzzes the ONNX reader for ten minutes, starting from small files of every form; needs a C++ compiler for libFuzzer. Findings are
# in export/fuzz/artifacts. With a nightly compiler, `cargo fuzz run decode` in export does the same under a sanitizer.
FUZZ_SECONDS ?= 600
FUZZ := export/fuzz
SMALL := --channels 1 --layers 1 --classes 2 --size 4
fuzz:
	cargo build -p milenas-export
	mkdir -p $(FUZZ)/corpus/decode $(FUZZ)/artifacts
	$(BIN)/milenas-export DARTS_V2 $(SMALL) -o $(FUZZ)/corpus/decode/plain
	$(BIN)/milenas-export AmoebaNet $(SMALL) --target onnxruntime -o $(FUZZ)/corpus/decode/onnxruntime
	$(BIN)/milenas-export NASNet $(SMALL) --target candle-onnx --opset 22 -o $(FUZZ)/corpus/decode/candle
	$(BIN)/milenas-export DARTS_V1 $(SMALL) --passes none --opset 13 --fp16 --input uint8 --output probabilities -o $(FUZZ)/corpus/decode/form
	$(BIN)/milenas-export DARTS_V2 $(SMALL) --int8 --calibrate digits --accuracy-gate 100 -o $(FUZZ)/corpus/decode/int8
	cd $(FUZZ) && RUSTC_WRAPPER=$$PWD/instrument cargo build
	$(FUZZ)/target/debug/decode $(FUZZ)/corpus/decode -max_total_time=$(FUZZ_SECONDS) -timeout=30 -rss_limit_mb=4096 -artifact_prefix=$(FUZZ)/artifacts/

# Writes the references of settings and passes from their declarations.
docs:
	MILENAS_WRITE_DOCS=1 cargo test --workspace --test settings --test passes

# Runs the example program of each crate.
EXAMPLES := $(TARGET)/examples
check-examples:
	cargo build --workspace --examples --bins
	rm -rf $(EXAMPLES)
	mkdir -p $(EXAMPLES)
	$(BIN)/examples/cost
	$(BIN)/examples/search_digits $(EXAMPLES)/search
	$(BIN)/examples/passes
	$(BIN)/milenas-export $(EXAMPLES)/search/genotype.json --channels 1 --layers 3 -o $(EXAMPLES)/model.onnx
	$(BIN)/examples/classify_one $(EXAMPLES)/model.onnx docs/images/report.png

# Checks exported files with the onnx package, ONNX Runtime and OpenVINO; needs python3 with venv.
check-onnx: .venv/ready
	cargo build --workspace
	.venv/bin/python tests/onnxruntime_check.py $(BIN)

# Compares the programs of docs/guide/deploy.md in Python, JavaScript and C++ with milenas-infer; prints which it skips.
check-consumers: .venv/ready
	cargo build --workspace
	.venv/bin/python tests/consumers_check.py $(BIN)

# Reads Parquet output with pyarrow, in a build with the feature. Afterwards milenas-infer is built again as in the other targets.
check-parquet: .venv/ready
	cargo clippy --workspace --features milenas-infer/parquet --all-targets -- -D warnings
	cargo build --workspace --features milenas-infer/parquet
	.venv/bin/python tests/parquet_check.py $(BIN)
	cargo build --workspace

# Tests the runtime tract, which needs Rust 1.91, on every form of an exported file. Afterwards the programs are built again as in the
# other targets.
check-tract: .venv/ready
	cargo clippy --workspace --features milenas-infer/tract --all-targets -- -D warnings
	cargo build --workspace --features milenas-infer/tract
	MILENAS_RUNTIMES=ort,tract VIRTUAL_ENV=$(CURDIR)/.venv cargo test --workspace --features milenas-infer/tract --test runtimes
	cargo build --workspace

# Compiles the kernels for processors with NEON, but does not run them. Needs rustup.
check-neon:
	rustup target add aarch64-unknown-linux-gnu
	cargo check -p milenas-models --target aarch64-unknown-linux-gnu --target-dir $(TARGET)/aarch64

# Checks without a GPU: the features for GPUs compile and link, NVRTC compiles the kernels, and the message without a GPU has help. The
# tests of every build check the arithmetic of the kernels. All crates are built, as in the other targets, so that dependencies are built
# once. Afterwards the programs are built again as in the other targets.
check-cuda: .venv/nvrtc
	cargo clippy --workspace --features milenas-search/cudnn --all-targets -- -D warnings
	cargo clippy --workspace --features milenas-search/cuda -- -D warnings
	MILENAS_NVRTC=1 LD_LIBRARY_PATH=$$(echo $(CURDIR)/.venv/lib/python3*/site-packages/nvidia/cu13/lib) cargo test --workspace --features milenas-search/cuda --test cuda compile::
	cargo build --workspace --features milenas-search/cuda
	if $(BIN)/milenas-search bench step --device cuda:99 --steps 1 2> $(TARGET)/cuda-refusal; then exit 1; fi
	grep -q 'help: ' $(TARGET)/cuda-refusal
	cargo build --workspace

.venv/nvrtc: .venv/ready
	.venv/bin/pip install --quiet --disable-pip-version-check --no-deps nvidia-cuda-nvrtc==13.0.88
	touch $@

# Reads the event files of an interrupted and resumed search and training with the tensorboard package.
check-tensorboard: .venv/ready
	cargo build --workspace
	.venv/bin/python tests/tensorboard_check.py $(BIN)

.venv/ready: tests/requirements.txt
	python3 -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	touch $@

# scikit-image is installed only for its photographs.
.venv/photographs: .venv/ready
	.venv/bin/pip install --quiet --disable-pip-version-check --no-deps scikit-image==0.26.0
	touch $@

# Builds the packages as they would be published, outside this tree and its configuration; about ten minutes.
check-package:
	dir=$$(mktemp -d) && cd $$dir && cargo publish --manifest-path $(CURDIR)/Cargo.toml --workspace --dry-run --allow-dirty --target-dir $$dir/target; \
	status=$$?; rm -rf $$dir; exit $$status

clean:
	rm -rf $(TARGET) .venv runs
