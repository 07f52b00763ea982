// Runs the three kernels of one source on the CPU:
// emulation FOLDER BATCH CHANNELS HEIGHT WIDTH SCALE ZERO_BORDER FIRST_IMAGE.
// Reads q, k, v and g from FOLDER as raw elements; writes out, lse, dq, delta, dk and dv there. The images are those
// from FIRST_IMAGE on of a batch whose other images do not exist: no kernel may look at them.
#include SOURCE

#include <fstream>
#include <memory>
#include <string>

namespace {

std::string folder;

// Exactly `count` elements on the heap, so that the address sanitizer sees the first byte beyond them.
template <class U>
std::unique_ptr<U[]> unwritten(std::size_t count) {
    std::unique_ptr<U[]> values(new U[count]);
    std::memset(static_cast<void*>(values.get()), 0xff, count * sizeof(U));
    return values;
}

std::unique_ptr<T[]> read(const char* name, std::size_t count) {
    auto values = unwritten<T>(count);
    std::ifstream file(folder + "/" + name, std::ios::binary);
    if (!file.read(reinterpret_cast<char*>(values.get()), static_cast<std::streamsize>(count * sizeof(T))))
        emulation::fail("an input file is too short");
    return values;
}

template <class U>
void write(const char* name, const std::unique_ptr<U[]>& values, std::size_t count) {
    std::ofstream file(folder + "/" + name, std::ios::binary);
    file.write(reinterpret_cast<const char*>(values.get()), static_cast<std::streamsize>(count * sizeof(U)));
}

}  // namespace

int main(int, char** argument) {
    folder = argument[1];
    const int batch = std::atoi(argument[2]), channels = std::atoi(argument[3]);
    const int height = std::atoi(argument[4]), width = std::atoi(argument[5]), zero_border = std::atoi(argument[7]);
    const float scale = std::strtof(argument[6], nullptr);
    const std::size_t pixels = static_cast<std::size_t>(batch) * height * width, count = pixels * channels;
    const auto q = read("q", count), k = read("k", count), v = read("v", count), g = read("g", count);
    const auto out = unwritten<T>(count), dq = unwritten<T>(count), dk = unwritten<T>(count), dv = unwritten<T>(count);
    const auto lse = unwritten<float>(pixels), delta = unwritten<float>(pixels);

    const long long first_image = std::atoll(argument[8]), first = first_image * channels * height * width;
    const long long first_pixel = first_image * height * width;
    const unsigned blocks_per_image =
        ((height + TILE_ROWS - 1) / TILE_ROWS) * ((width + TILE_COLUMNS - 1) / TILE_COLUMNS);
    const unsigned first_block = static_cast<unsigned>(first_image) * blocks_per_image;
    const unsigned blocks = batch * blocks_per_image;
    // Where the batch would begin.
    const auto start = [&](const auto& values) { return values.get() - first; };
    const auto start_of_pixels = [&](const auto& values) { return values.get() - first_pixel; };
    emulation::launch(first_block, blocks, THREADS, SHARED_FORWARD, [&] {
        local_attention_forward(start(q), start(k), start(v), start(out), start_of_pixels(lse), channels, height, width,
                                scale, zero_border);
    });
    emulation::launch(first_block, blocks, THREADS, SHARED_DQ, [&] {
        local_attention_dq(start(g), start(q), start(k), start(v), start(out), start_of_pixels(lse), start(dq),
                           start_of_pixels(delta), channels, height, width, scale);
    });
    emulation::launch(first_block, blocks, THREADS, SHARED_DKV, [&] {
        local_attention_dkv(start(g), start(q), start(k), start(v), start_of_pixels(lse), start_of_pixels(delta),
                            start(dk), start(dv), channels, height, width, scale);
    });
    write("out", out, count);
    write("lse", lse, pixels);
    write("dq", dq, count);
    write("delta", delta, pixels);
    write("dk", dk, count);
    write("dv", dv, count);
}
