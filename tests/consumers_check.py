"""Programs in other languages that read an exported file say what `milenas-infer` says.

    python tests/consumers_check.py target/debug

runs tests/consumers/: Python with ONNX Runtime; JavaScript with ONNX Runtime, where node and npm are; C++ with OpenVINO,
whose headers come with its Python package, where g++ is; C++ with ONNX Runtime, where $ORT is an unpacked release of it
(no package index has its headers). What is missing is said.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import openvino
from PIL import Image

import onnxruntime_check as check

HERE = Path(__file__).resolve().parent / "consumers"


def lines(*command, cwd=None):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, cwd=cwd)
    if done.returncode != 0:
        sys.exit(f"{command[0]}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def agree(name, found, expected, tolerance):
    rows = [(row["path"], row["predictions"][0]["label"]) for row in expected]
    assert [(row["path"], row["label"]) for row in found] == rows, f"{name}: the same labels in the same order"
    worst = max(abs(f["probability"] - e["predictions"][0]["score"]) for f, e in zip(found, expected))
    print(f"{name}: {len(found)} pictures, the same labels, probabilities differ by at most {worst:.1e}")
    assert worst <= tolerance, f"{name}: over {tolerance}"


def javascript():
    """The folder of the program with its packages, or none."""
    if not (shutil.which("node") and shutil.which("npm")):
        print("JavaScript: skipped, there is no node with npm")
        return None
    folder = HERE / "javascript"
    if not (folder / "node_modules/sharp").exists():
        command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode != 0:
            print(f"JavaScript: skipped, its packages cannot be had: {done.stderr.strip()[-300:]}")
            return None
    return folder


def compiled(name, out, include, library):
    command = ["g++", "-std=c++17", "-O2", HERE / "cpp" / f"{name}.cpp", f"-I{include}", library,
               f"-Wl,-rpath,{Path(library).parent}", "-o", out]
    lines(*command)
    return out


def cpp(folder):
    """Programs by their names."""
    if not shutil.which("g++"):
        print("C++: skipped, there is no g++")
        return {}
    root = Path(openvino.__file__).parent
    library = next((root / "libs").glob("libopenvino.so.*"))
    programs = {"C++, OpenVINO": compiled("openvino", folder / "openvino", root / "include", library)}
    if "ORT" in os.environ:
        ort = Path(os.environ["ORT"])
        programs["C++, ONNX Runtime"] = compiled("onnxruntime", folder / "ort", ort / "include", ort / "lib/libonnxruntime.so")
    else:
        print("C++, ONNX Runtime: skipped, ORT names no unpacked release")
    return programs


def main():
    bin_dir = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        check.larger(bin_dir, folder)
        files = sorted((folder / "images").rglob("*.*"))
        ppm = [folder / f"{f.stem}.ppm" for f in files]
        for file, plain in zip(files, ppm):
            Image.open(file).convert("RGB").save(plain)
        node, programs = javascript(), cpp(folder)
        for options in ([], ["--input", "uint8", "--output", "probabilities"]):
            model = folder / f"{len(options)}" / "model.onnx"
            model.parent.mkdir()
            check.run(bin_dir / "milenas-export", folder / "network/weights.safetensors", *options, "--sidecars", "-o", model)
            ours = lines(bin_dir / "milenas-infer", "classify", model, *files, "--format", "jsonl")
            agree("Python", lines(sys.executable, HERE / "python/classify.py", model, *files), ours, 1e-3)
            if node:
                agree("JavaScript", lines("node", node / "classify.js", model, *files), ours, 1e-3)
        ours = lines(bin_dir / "milenas-infer", "classify", model, *ppm, "--format", "jsonl")
        for name, program in programs.items():
            agree(name, lines(program, model, *ppm), ours, 1e-3)


if __name__ == "__main__":
    main()
