// Classifies PPM pictures with a file of milenas-export in OpenVINO.
//
//     milenas-export weights.safetensors --input uint8 --output probabilities --sidecars -o model.onnx
//     ./classify model.onnx photo.ppm
//
// Such a file scales the bytes itself and ends in probabilities: what is left is to decode, resize and look up the label.
#include <openvino/openvino.hpp>

#include "picture.hpp"

int main(int count, char** words) try {
    if (count < 3) throw std::runtime_error("usage: classify model.onnx picture.ppm...");
    const std::string model = words[1];
    const auto labels = read_labels(model);
    const size_t side = read_side(model);
    ov::Core core;
    // Without the hint OpenVINO computes in bfloat16 where the processor can.
    auto compiled = core.compile_model(model, "CPU", ov::hint::inference_precision(ov::element::f32));
    const auto shape = compiled.input().get_partial_shape();
    const size_t height = size_t(shape[1].get_length()), width = size_t(shape[2].get_length());
    auto request = compiled.create_infer_request();
    for (int i = 2; i < count; ++i) {
        Picture picture = prepare(read_ppm(words[i]), height, width, side);
        request.set_input_tensor(ov::Tensor(ov::element::u8, {1, height, width, 3}, picture.rgb.data()));
        request.infer();
        const ov::Tensor output = request.get_output_tensor();
        const float* p = output.data<float>();
        const float* best = std::max_element(p, p + labels.size());
        print(words[i], labels.at(size_t(best - p)), *best);
    }
} catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
}
