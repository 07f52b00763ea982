// Host twin of the device half of kernels/primitives.cuh, and a CPU that runs blocks of threads.
//
// Every CUDA thread is a fiber of one OS thread; barriers and warp collectives switch to the next fiber. The thread
// sanitizer is told that fibers are threads and that only __syncthreads and __syncwarp order them, so a missing barrier
// is a reported race although the run itself is sequential. Background copies poison their target when they are issued
// and happen when they are waited for, shared memory starts as NaN and has its exact size on the heap, and a barrier that
// some thread does not reach is an error.
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#define DEVICE inline
#define KERNEL(threads, blocks) extern "C" void
#define SHARED_MEMORY(name) unsigned char* name = emulation::shared_memory()
#define UNSEEN __attribute__((no_sanitize("thread"), noinline))  // the machine itself is no part of the program

using std::abs;
using std::max;
using std::min;

namespace emulation {

constexpr int WARP = 32, MAX_THREADS = 1024;
constexpr unsigned POISON = 0xffffffff;  // not a number in every type

struct Index {
    unsigned x;
};

struct Copy {
    void* target;
    const void* source;
    int bytes, group;
    bool valid;
};

struct Rendezvous {
    int arrived = 0;
    int generation = 0;
    char order[2] = {};  // one address a turn: whoever leaves late must not see those who have come to the next
};

struct Fiber {
    ucontext_t context;
    std::vector<char> stack;
    const void* stack_start = nullptr;
    std::size_t stack_size = 0;
    void* sanitizer = nullptr;
    bool done = false;
    unsigned block = 0;
    int group = 0;
    std::vector<Copy> copies;
};

struct Warp {
    Rendezvous all;
    const char* operation = nullptr;
    unsigned slot[2][WARP][8];  // two sides: nobody writes a side before all have read it
};

struct Machine {
    Fiber main, fibers[MAX_THREADS];
    Warp warps[MAX_THREADS / WARP];
    Rendezvous block;
    int threads = 0, current = 0, idle = 0;
    unsigned first_block = 0, blocks = 0;
    std::vector<unsigned char*> shared;
    std::function<void()> kernel;
};
inline Machine machine;

[[noreturn]] inline void fail(const char* message) {
    std::fprintf(stderr, "emulation: %s\n", message);
    std::_Exit(3);
}

UNSEEN inline int thread_number() { return machine.current; }
UNSEEN inline Index thread_index() { return {static_cast<unsigned>(machine.current)}; }
UNSEEN inline Index block_index() { return {machine.first_block + machine.fibers[machine.current].block}; }
UNSEEN inline unsigned char* shared_memory() { return machine.shared[machine.fibers[machine.current].block]; }
UNSEEN inline Fiber& self() { return machine.fibers[machine.current]; }

UNSEEN inline void switch_to(Fiber& from, Fiber& to) {
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(to.sanitizer, __tsan_switch_to_fiber_no_sync);
#endif
#if defined(__SANITIZE_ADDRESS__)
    void* fake_stack = nullptr;
    __sanitizer_start_switch_fiber(&fake_stack, to.stack_start, to.stack_size);
#endif
    swapcontext(&from.context, &to.context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

UNSEEN inline void switch_to_next() {
    Fiber& from = machine.fibers[machine.current];
    for (int step = 1; step <= machine.threads; ++step) {
        int next = (machine.current + step) % machine.threads;
        if (machine.fibers[next].done) continue;
        machine.current = next;
        if (&machine.fibers[next] != &from) switch_to(from, machine.fibers[next]);
        return;
    }
    switch_to(from, machine.main);
}

UNSEEN inline void meet(Rendezvous& place, int expected) {
    int generation = place.generation;
    if (++place.arrived == expected) {
        place.arrived = 0;
        ++place.generation;
        machine.idle = 0;
        return;
    }
    while (place.generation == generation) {
        if (++machine.idle > 3 * machine.threads) fail("a barrier or warp operation is not reached by all threads");
        switch_to_next();
    }
}

inline void ordered(void* place, bool before) {
#if defined(__SANITIZE_THREAD__)
    before ? __tsan_release(place) : __tsan_acquire(place);
#else
    (void)place, (void)before;
#endif
}

UNSEEN inline char* order_of(Rendezvous& place) { return &place.order[place.generation % 2]; }

inline void barrier(Rendezvous& place, int expected) {
    char* order = order_of(place);
    ordered(order, true);
    meet(place, expected);
    ordered(order, false);
}

UNSEEN inline Warp& own_warp() { return machine.warps[machine.current / WARP]; }

UNSEEN inline int warp_size() { return min(WARP, machine.threads - machine.current / WARP * WARP); }

// All lanes deposit `count` words and then see everybody's.
UNSEEN inline auto exchange(const char* operation, const unsigned* words, int count) -> unsigned (*)[8] {
    Warp& warp = own_warp();
    if (warp_size() != WARP) fail("a warp operation in an incomplete warp");
    if (warp.all.arrived == 0) warp.operation = operation;
    if (std::strcmp(warp.operation, operation) != 0) fail("lanes of a warp are at different operations");
    unsigned(*side)[8] = warp.slot[warp.all.generation % 2];
    for (int i = 0; i < count; ++i) side[machine.current % WARP][i] = words[i];
    meet(warp.all, WARP);
    return side;
}

UNSEEN inline unsigned word(unsigned (*side)[8], int lane, int index) { return side[lane][index]; }

UNSEEN inline void finish() {
    self().done = true;
    machine.idle = 0;
    switch_to_next();
}

inline void fiber_body() {
#if defined(__SANITIZE_ADDRESS__)
    Fiber& main = machine.main;
    __sanitizer_finish_switch_fiber(nullptr, main.stack_start ? nullptr : &main.stack_start,
                                    main.stack_size ? nullptr : &main.stack_size);
#endif
    ordered(&machine, false);
    Fiber& fiber = self();
    for (unsigned block = 0; block < machine.blocks; ++block) {
        fiber.block = block;
        machine.kernel();
        if (!fiber.copies.empty()) fail("a thread ended with copies under way");
    }
    ordered(&machine, true);
    finish();
}

// Run `kernel` for every thread of `blocks` blocks from `first_block` on, with `shared_bytes` of shared memory each.
inline void launch(unsigned first_block, unsigned blocks, int threads, std::size_t shared_bytes, std::function<void()> kernel) {
    machine.first_block = first_block;
    machine.blocks = blocks;
    machine.threads = threads;
    machine.kernel = std::move(kernel);
    for (unsigned i = 0; i < blocks; ++i) {
        machine.shared.push_back(static_cast<unsigned char*>(std::aligned_alloc(16, shared_bytes)));
        std::memset(machine.shared.back(), POISON, shared_bytes);
    }
#if defined(__SANITIZE_THREAD__)
    machine.main.sanitizer = __tsan_get_current_fiber();
#endif
    for (int i = 0; i < threads; ++i) {
        Fiber& fiber = machine.fibers[i];
        fiber.done = false;
        fiber.stack.resize(1 << 17);
        getcontext(&fiber.context);
        fiber.stack_start = fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.stack_size = fiber.context.uc_stack.ss_size = fiber.stack.size();
        makecontext(&fiber.context, fiber_body, 0);
#if defined(__SANITIZE_THREAD__)
        fiber.sanitizer = __tsan_create_fiber(0);
#endif
    }
    ordered(&machine, true);
    machine.current = 0;
    switch_to(machine.main, machine.fibers[0]);
    ordered(&machine, false);
    for (int i = 0; i < threads; ++i) {
#if defined(__SANITIZE_THREAD__)
        __tsan_destroy_fiber(machine.fibers[i].sanitizer);
#endif
    }
    for (unsigned char* memory : machine.shared) std::free(memory);
    machine.shared.clear();
}

}  // namespace emulation

#define threadIdx emulation::thread_index()
#define blockIdx emulation::block_index()

inline void __syncthreads() { emulation::barrier(emulation::machine.block, emulation::machine.threads); }
inline void __syncwarp() { emulation::barrier(emulation::own_warp().all, emulation::warp_size()); }

using SharedAddress = const char*;
inline SharedAddress shared_address(const void* pointer) { return static_cast<const char*>(pointer); }

inline float infinity() { return std::numeric_limits<float>::infinity(); }
inline unsigned float_bits(float x) {
    unsigned bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}
inline float bits_float(unsigned bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}
inline float exp2_fast(float x) { return std::exp2(x); }
inline float log2_fast(float x) { return std::log2(x); }

inline int warp_number() {
    const unsigned own = threadIdx.x / emulation::WARP;
    return static_cast<int>(emulation::word(emulation::exchange("shuffle from lane 0", &own, 1), 0, 0));
}

inline float shuffle_xor(float x, int mask) {
    unsigned bits, other;
    std::memcpy(&bits, &x, 4);
    auto side = emulation::exchange("shuffle", &bits, 1);
    other = emulation::word(side, emulation::thread_number() % emulation::WARP ^ mask, 0);
    std::memcpy(&x, &other, 4);
    return x;
}

inline float to_float(float x) { return x; }
inline float to_float(bf16 x) {
    std::uint32_t bits = static_cast<std::uint32_t>(x.bits) << 16;
    float y;
    std::memcpy(&y, &bits, 4);
    return y;
}
inline float to_float(f16 x) {
    _Float16 y;
    std::memcpy(&y, &x.bits, 2);
    return static_cast<float>(y);
}

inline void round_to(float& y, float x) { y = x; }
inline void round_to(bf16& y, float x) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, 4);
    y.bits = std::isnan(x) ? 0x7fff : static_cast<unsigned short>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline void round_to(f16& y, float x) {
    _Float16 rounded = static_cast<_Float16>(x);
    std::memcpy(&y.bits, &rounded, 2);
}

template <class T>
unsigned pack(float low, float high) {
    T a, b;
    round_to(a, low);
    round_to(b, high);
    return a.bits | static_cast<unsigned>(b.bits) << 16;
}

template <class T, int COUNT>
void check_alignment(const T* pointer) {
    if (reinterpret_cast<std::uintptr_t>(pointer) % (COUNT * sizeof(T)))
        emulation::fail("a vector that is not aligned to its size");
}
// By element: the thread sanitizer does not see copies of whole structures.
template <int COUNT, class T>
Vector<T, COUNT> load_vector(const T* source) {
    check_alignment<T, COUNT>(source);
    Vector<T, COUNT> value;
    for (int i = 0; i < COUNT; ++i) value.element[i] = source[i];
    return value;
}
template <class T, int COUNT>
void store_vector(T* target, const Vector<T, COUNT>& value) {
    check_alignment<T, COUNT>(target);
    for (int i = 0; i < COUNT; ++i) target[i] = value.element[i];
}

template <int BYTES>
void copy_async(void* target, const void* source, bool valid) {
    static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16);
    if (reinterpret_cast<std::uintptr_t>(target) % BYTES || reinterpret_cast<std::uintptr_t>(source) % BYTES)
        emulation::fail("a background copy between addresses that are not aligned");
    for (int i = 0; i < BYTES / 4; ++i) static_cast<unsigned*>(target)[i] = emulation::POISON;
    emulation::Fiber& fiber = emulation::self();
    fiber.copies.push_back({target, source, BYTES, fiber.group, valid});
}
inline void copy_commit() { ++emulation::self().group; }
template <int PENDING>
void copy_wait() {
    emulation::Fiber& fiber = emulation::self();
    std::size_t kept = 0;
    for (const emulation::Copy& copy : fiber.copies) {
        if (copy.group >= fiber.group - PENDING)
            fiber.copies[kept++] = copy;
        else  // by word: the thread sanitizer does not see a fiber's memcpy
            for (int i = 0; i < copy.bytes / 4; ++i)
                static_cast<unsigned*>(copy.target)[i] = copy.valid ? static_cast<const unsigned*>(copy.source)[i] : 0;
    }
    fiber.copies.resize(kept);
}

template <int COUNT>
void load_matrices_as(unsigned (&r)[COUNT], SharedAddress row, bool transposed) {
    const int lane = emulation::thread_number() % emulation::WARP, g = lane / 4, t = lane % 4;
    unsigned own[4] = {};
    if (lane < 8 * COUNT) {
        if (reinterpret_cast<std::uintptr_t>(row) % 16) emulation::fail("a matrix row that is not aligned to 16 bytes");
        for (int i = 0; i < 4; ++i) own[i] = reinterpret_cast<const unsigned*>(row)[i];
    }
    auto side = emulation::exchange(transposed ? "transposed matrices" : "matrices", own, 4);
    const auto element = [&](int matrix, int i, int j) {
        return emulation::word(side, 8 * matrix + i, j / 2) >> 16 * (j % 2) & 0xffff;
    };
    for (int m = 0; m < COUNT; ++m)
        r[m] = transposed ? element(m, 2 * t, g) | element(m, 2 * t + 1, g) << 16
                          : element(m, g, 2 * t) | element(m, g, 2 * t + 1) << 16;
}
template <int COUNT>
void load_matrices(unsigned (&r)[COUNT], SharedAddress row) {
    load_matrices_as(r, row, false);
}
template <int COUNT>
void load_matrices_transposed(unsigned (&r)[COUNT], SharedAddress row) {
    load_matrices_as(r, row, true);
}

// `words` holds a, then b, with DEPTH / 8 registers of b and twice as many of a.
template <class T, int DEPTH>
void multiply_add_as(float (&d)[4], const unsigned* words) {
    constexpr int STEPS = DEPTH / 8;
    const int lane = emulation::thread_number() % emulation::WARP, g = lane / 4, t = lane % 4;
    auto side = emulation::exchange("multiply-add", words, 3 * STEPS);
    const auto value = [&](int owner, int index, int half) {
        return static_cast<double>(
            to_float(T{static_cast<unsigned short>(emulation::word(side, owner, index) >> 16 * half)}));
    };
    for (int e = 0; e < 4; ++e) {
        const int row = e / 2, column = 2 * t + e % 2;
        double sum = d[e];
        for (int k = 0; k < DEPTH; ++k)
            sum += value(4 * g + k % 8 / 2, k / 8 * 2 + row, k % 2) *
                   value(4 * column + k % 8 / 2, 2 * STEPS + k / 8, k % 2);
        d[e] = static_cast<float>(sum);
    }
}
template <class T>
void multiply_add(T, float (&d)[4], const unsigned* a, unsigned b0, unsigned b1) {
    const unsigned words[6] = {a[0], a[1], a[2], a[3], b0, b1};
    multiply_add_as<T, 16>(d, words);
}
template <class T>
void multiply_add(T, float (&d)[4], const unsigned* a, unsigned b0) {
    const unsigned words[3] = {a[0], a[1], b0};
    multiply_add_as<T, 8>(d, words);
}

// float32 operands cut to TF32, and the sum cut to float32: the roughest that is known of tensor cores.
inline void multiply_add(float, float (&d)[4], const unsigned* a, unsigned b0, unsigned b1) {
    const unsigned words[6] = {a[0], a[1], a[2], a[3], b0, b1};
    const int lane = emulation::thread_number() % emulation::WARP, g = lane / 4, t = lane % 4;
    auto side = emulation::exchange("multiply-add", words, 6);
    const auto value = [&](int owner, int index) {
        return static_cast<double>(bits_float(emulation::word(side, owner, index) & 0xffffe000u));
    };
    for (int e = 0; e < 4; ++e) {
        const int row = e / 2, column = 2 * t + e % 2;
        double sum = d[e];
        for (int k = 0; k < 8; ++k)
            sum += value(4 * g + k % 4, k / 4 * 2 + row) * value(4 * column + k % 4, 4 + k / 4);
        d[e] = static_cast<float>(sum);
        if (std::abs(static_cast<double>(d[e])) > std::abs(sum)) d[e] = std::nextafter(d[e], 0.0f);
    }
}
