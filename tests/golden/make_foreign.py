"""A small mobile network as both exporters of PyTorch write it, with its logits. Writes to tests/data/foreign: `torchscript.onnx`,
`dynamo.onnx` with its weights in `dynamo.onnx.data`, and `logits.safetensors` with images and logits.

    python make_foreign.py

Needs: pip install torch onnx onnxscript safetensors.
"""
from pathlib import Path

import onnx
import torch
import torch.nn as nn
from safetensors.torch import save_file

OUT = Path(__file__).resolve().parent.parent / "data" / "foreign"


class Excite(nn.Module):
    """Squeeze-and-excite, with the gate of MobileNetV3 or that of EfficientNet."""

    def __init__(self, channels, hard):
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)
        self.middle, self.gate = (nn.ReLU(), nn.Hardsigmoid()) if hard else (nn.SiLU(), nn.Sigmoid())

    def forward(self, x):
        mean = nn.functional.adaptive_avg_pool2d(x, 1)
        return x * self.gate(self.excite(self.middle(self.squeeze(mean))))


class Block(nn.Module):
    """Inverted residual block."""

    def __init__(self, inputs, outputs, kernel, stride, activation, excite):
        super().__init__()
        middle = 2 * inputs
        layers = [nn.Conv2d(inputs, middle, 1, bias=False), nn.BatchNorm2d(middle), activation(),
                  nn.Conv2d(middle, middle, kernel, stride, kernel // 2, groups=middle, bias=False),
                  nn.BatchNorm2d(middle), activation()]
        if excite is not None:
            layers.append(Excite(middle, excite))
        layers += [nn.Conv2d(middle, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.layers, self.residual = nn.Sequential(*layers), stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.layers(x) if self.residual else self.layers(x)


class Shuffle(nn.Module):
    """Block of ShuffleNet: half of the channels pass, and the groups are exchanged."""

    def __init__(self, channels, side):
        super().__init__()
        self.layer, self.shape = nn.Conv2d(channels // 2, channels // 2, 1), (channels, side, side)

    def forward(self, x):
        passing, own = x.split(self.shape[0] // 2, dim=1)
        x = torch.cat([passing, self.layer(own)], dim=1)
        channels, *side = self.shape
        return x.view(-1, 2, channels // 2, *side).transpose(1, 2).reshape(-1, channels, *side)


def network():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
        Block(8, 8, 3, 1, nn.ReLU6, None),
        Block(8, 12, 5, 2, nn.Hardswish, True),
        Block(12, 12, 3, 1, nn.SiLU, False),
        Block(12, 12, 3, 1, lambda: nn.LeakyReLU(0.1), None),
        Shuffle(12, 5),
        nn.Conv2d(12, 24, 1, bias=False), nn.BatchNorm2d(24), nn.Tanh(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(24, 5))


def strip(path):
    """Removes what PyTorch notes about the program that built the network."""
    model = onnx.load(path, load_external_data=False)
    for node in [model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info]:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    onnx.save(model, path)


def main():
    torch.manual_seed(0)
    net = network().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.2)
    images = torch.randn(2, 3, 20, 20)
    OUT.mkdir(parents=True, exist_ok=True)
    names = {"input_names": ["images"], "output_names": ["logits"]}
    torch.onnx.export(net, (images,), OUT / "torchscript.onnx", opset_version=13, dynamo=False,
                      dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}}, **names)
    batch = torch.export.Dim("batch", min=1, max=64)
    torch.onnx.export(net, (images,), OUT / "dynamo.onnx", opset_version=18, dynamo=True, external_data=True,
                      dynamic_shapes=({0: batch},), **names)
    for name in ["torchscript.onnx", "dynamo.onnx"]:
        strip(OUT / name)
    with torch.no_grad():
        save_file({"images": images, "logits": net(images)}, OUT / "logits.safetensors")


main()
