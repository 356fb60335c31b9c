"""What the compiler leaves out: preprocessing convolutions of two cells that read one state, as one; dead channels.

    python left_out.py portable.onnx --out merged.onnx
    python ort_ratio.py portable.onnx merged.onnx

writes the file with every group of 1x1 convolutions of one input as one convolution and a Slice for each; of files by
milenas-export in float32; and counts the channels that convolutions write or read with weights of (nearly) 0. docs/compiler.md
has what it gains. Needs: pip install onnx numpy.
"""
import argparse
import collections

import numpy as np
import onnx
from onnx import helper, numpy_helper


def merge(model):
    graph = model.graph
    numbers = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    groups = collections.defaultdict(list)
    for node in graph.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        plain = node.op_type == "Conv" and attributes["group"] == 1 and len(node.input) == 3
        if plain and attributes["kernel_shape"] == [1, 1] and attributes["strides"] == [1, 1]:
            groups[node.input[0]].append(node)
    merged = 0
    for nodes in groups.values():
        if len(nodes) < 2:
            continue
        first = nodes[0]
        for role, at in (("weight", 1), ("bias", 2)):
            tensor = np.concatenate([numbers[n.input[at]] for n in nodes])
            graph.initializer.append(numpy_helper.from_array(tensor, f"{first.name}.merged.{role}"))
        both = f"{first.name}.merged"
        conv = helper.make_node("Conv", [first.input[0], f"{both}.weight", f"{both}.bias"], [both], both)
        conv.attribute.extend(first.attribute)
        new, start = [conv], 0
        for node in nodes:
            end = start + len(numbers[node.input[2]])
            bounds = [f"{node.name}.{what}" for what in ("start", "end", "axis")]
            for name, value in zip(bounds, (start, end, 1)):
                graph.initializer.append(numpy_helper.from_array(np.array([value], dtype=np.int64), name))
            new.append(helper.make_node("Slice", [both, *bounds], list(node.output), node.name))
            start = end
        place = list(graph.node).index(first)
        for node in nodes:
            graph.node.remove(node)
        for node in reversed(new):
            graph.node.insert(place, node)
        merged += 1
    return merged


def dead(model):
    """Channels written, of them dead, channels read by dense convolutions, of them dead."""
    numbers = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    counts = [0] * 4
    for node in model.graph.node:
        weight = np.abs(numbers[node.input[1]]) if node.op_type == "Conv" else np.zeros((0, 1, 1, 1))
        for at, axes in ((0, (1, 2, 3)), (2, (0, 2, 3))):
            if len(weight) and (at == 0 or weight.shape[1] > 1):
                most = weight.max(axes)
                counts[at] += len(most)
                counts[at + 1] += int((most < 1e-6 * weight.max()).sum())
    return counts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--out", default="merged.onnx")
    a = parser.parse_args()
    model = onnx.load(a.model)
    print("channels written {}, dead {}; read {}, dead {}".format(*dead(model)))
    print(merge(model), "groups merged")
    used = {name for node in model.graph.node for name in node.input}
    kept = [t for t in model.graph.initializer if t.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, a.out)


if __name__ == "__main__":
    main()
