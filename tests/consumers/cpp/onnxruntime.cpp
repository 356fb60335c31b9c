// Classifies PPM pictures with a file of milenas-export in ONNX Runtime.
//
//     milenas-export weights.safetensors --input uint8 --output probabilities --sidecars -o model.onnx
//     g++ -std=c++17 onnxruntime.cpp -I$ORT/include -L$ORT/lib -lonnxruntime -Wl,-rpath,$ORT/lib -o classify
//     ./classify model.onnx photo.ppm
//
// ORT is an unpacked release of ONNX Runtime. Such a file scales the bytes itself and ends in probabilities: what is left
// is to decode, resize and look up the label.
#include <onnxruntime_cxx_api.h>

#include "picture.hpp"

int main(int count, char** words) try {
    if (count < 3) throw std::runtime_error("usage: classify model.onnx picture.ppm...");
    const std::string model = words[1];
    const auto labels = read_labels(model);
    const size_t side = read_side(model);
    Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "classify");
    Ort::Session session(env, model.c_str(), Ort::SessionOptions());
    const auto shape = session.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape();
    const size_t height = size_t(shape[1]), width = size_t(shape[2]);
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    const char* inputs[] = {"input"};
    const char* outputs[] = {"probabilities"};
    const int64_t dims[] = {1, shape[1], shape[2], 3};
    for (int i = 2; i < count; ++i) {
        Picture picture = prepare(read_ppm(words[i]), height, width, side);
        auto input = Ort::Value::CreateTensor<uint8_t>(memory, picture.rgb.data(), picture.rgb.size(), dims, 4);
        auto output = session.Run(Ort::RunOptions{nullptr}, inputs, &input, 1, outputs, 1);
        const float* p = output[0].GetTensorData<float>();
        const float* best = std::max_element(p, p + labels.size());
        print(words[i], labels.at(size_t(best - p)), *best);
    }
} catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
}
