// A picture at the network's size, as the network was trained to see it: antialiased bilinear, then the centre.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

struct Picture {
    size_t height = 0, width = 0;
    std::vector<uint8_t> rgb;  // [height][width][3]
};

// A binary PPM. For other formats use the decoder you have, and turn by EXIF what it does not.
inline Picture read_ppm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string magic;
    size_t most = 0;
    Picture p;
    file >> magic >> p.width >> p.height >> most;
    file.get();
    if (!file || magic != "P6" || most != 255 || p.width > 1 << 16 || p.height > 1 << 16)
        throw std::runtime_error(path + ": expected a binary PPM of 8 bits");
    p.rgb.resize(p.width * p.height * 3);
    if (!file.read(reinterpret_cast<char*>(p.rgb.data()), static_cast<std::streamsize>(p.rgb.size())))
        throw std::runtime_error(path + ": truncated");
    return p;
}

// Rows of another length, and the result turned over its diagonal, so that two calls resize both axes.
inline Picture resize_rows(const Picture& from, size_t length) {
    Picture to{length, from.height, std::vector<uint8_t>(length * from.height * 3)};
    const double scale = double(from.width) / double(length), radius = std::max(scale, 1.0);
    for (size_t x = 0; x < length; ++x) {
        const double centre = (double(x) + 0.5) * scale;
        const size_t first = size_t(std::max(0.0, std::floor(centre - radius + 0.5)));
        const size_t last = std::min(from.width, size_t(centre + radius + 0.5));
        std::vector<double> weights;
        double sum = 0;
        for (size_t i = first; i < last; ++i) {
            weights.push_back(std::max(0.0, 1 - std::abs(double(i) + 0.5 - centre) / radius));
            sum += weights.back();
        }
        for (size_t y = 0; y < from.height; ++y)
            for (size_t c = 0; c < 3; ++c) {
                double value = 0;
                for (size_t i = 0; i < weights.size(); ++i)
                    value += weights[i] * from.rgb[(y * from.width + first + i) * 3 + c];
                to.rgb[(x * from.height + y) * 3 + c] = uint8_t(std::lround(value / sum));
            }
    }
    return to;
}

// `side` is the shorter side before the centre is cut out; 0 stretches.
inline Picture prepare(const Picture& from, size_t height, size_t width, size_t side) {
    if (from.height == height && from.width == width) return from;
    if (side == 0) return resize_rows(resize_rows(from, width), height);
    const size_t shorter = std::min(from.height, from.width);
    const size_t h = std::max(from.height * side / shorter, height), w = std::max(from.width * side / shorter, width);
    const Picture whole = resize_rows(resize_rows(from, w), h);
    // nearbyint rounds half to even.
    const size_t top = size_t(std::nearbyint(double(h - height) / 2)), left = size_t(std::nearbyint(double(w - width) / 2));
    Picture to{height, width, {}};
    for (size_t y = 0; y < height; ++y) {
        const auto row = whole.rgb.begin() + long(((top + y) * w + left) * 3);
        to.rgb.insert(to.rgb.end(), row, row + long(width * 3));
    }
    return to;
}

inline std::string folder_of(const std::string& path) {
    const size_t slash = path.find_last_of('/');
    return slash == std::string::npos ? "" : path.substr(0, slash + 1);
}

inline std::vector<std::string> read_labels(const std::string& model) {
    std::ifstream file(folder_of(model) + "labels.txt");
    std::vector<std::string> labels;
    for (std::string line; std::getline(file, line);) labels.push_back(line);
    return labels;
}

// The number behind "side" in preprocess.json, 0 if the rule is to stretch. With a JSON library, use it.
inline size_t read_side(const std::string& model) {
    std::ifstream file(folder_of(model) + "preprocess.json");
    std::stringstream text;
    text << file.rdbuf();
    const size_t at = text.str().find("\"side\":");
    return at == std::string::npos ? 0 : std::stoul(text.str().substr(at + 7));
}

inline void print(const std::string& path, const std::string& label, float probability) {
    std::printf("{\"path\": \"%s\", \"label\": \"%s\", \"probability\": %.6f}\n", path.c_str(), label.c_str(), double(probability));
}
