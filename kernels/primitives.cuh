// Everything that is not plain C++: inline PTX, all of it at the level of sm_80. Its host twin, with the same names
// and meanings, is tests/kernels/emulation.h, so that the kernels run unchanged on a CPU under sanitizers.
// No header is included anywhere: NVRTC then needs no include path, and cannot find another toolkit's headers.
#pragma once

struct bf16 {
    unsigned short bits;
};
struct f16 {
    unsigned short bits;
};

template <class T, int COUNT>
struct alignas(COUNT * sizeof(T)) Vector {
    T element[COUNT];
};

#ifdef ATRC_EMULATION
#include "emulation.h"
#else

#define DEVICE __device__ __forceinline__
#define KERNEL(threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks)
#define SHARED_MEMORY(name) extern __shared__ __align__(16) unsigned char name[]

// Address in shared memory, in bytes: 32 bits are enough there, and additions fold into the instruction.
using SharedAddress = unsigned;

DEVICE SharedAddress shared_address(const void* pointer) {
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

DEVICE float infinity() { return __int_as_float(0x7f800000); }

DEVICE unsigned float_bits(float x) { return __float_as_uint(x); }
DEVICE float bits_float(unsigned x) { return __uint_as_float(x); }

DEVICE float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

DEVICE float log2_fast(float x) {
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Number of this thread's warp in the block. The compiler cannot see that a division by 32 is the same for a whole warp;
// what comes out of one lane is, and then addresses and branches take the instructions for uniform values.
DEVICE int warp_number() { return __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x / 32), 0); }

DEVICE float shuffle_xor(float x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }

DEVICE float to_float(float x) { return x; }
DEVICE float to_float(bf16 x) { return __int_as_float(static_cast<int>(x.bits) << 16); }
DEVICE float to_float(f16 x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
}

DEVICE void round_to(float& y, float x) { y = x; }
DEVICE void round_to(bf16& y, float x) { asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); }
DEVICE void round_to(f16& y, float x) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); }

// Two values rounded to 16 bits, the first in the low half.
template <class T>
DEVICE unsigned pack(float low, float high);
template <>
DEVICE unsigned pack<bf16>(float low, float high) {
    unsigned y;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
    return y;
}
template <>
DEVICE unsigned pack<f16>(float low, float high) {
    unsigned y;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
    return y;
}

// COUNT elements in one access, whose address must be a multiple of its size.
template <int COUNT, class T>
DEVICE Vector<T, COUNT> load_vector(const T* source) {
    return *reinterpret_cast<const Vector<T, COUNT>*>(source);
}
template <class T, int COUNT>
DEVICE void store_vector(T* target, const Vector<T, COUNT>& value) {
    *reinterpret_cast<Vector<T, COUNT>*>(target) = value;
}

// Copy 4, 8 or 16 bytes from global to shared memory in the background, or write zeros where `valid` is false.
// `source` must be readable in either case; both addresses must be multiples of BYTES.
template <int BYTES>
DEVICE void copy_async(void* target, const void* source, bool valid) {
    unsigned to = shared_address(target);
    int bytes = valid ? BYTES : 0;
    if constexpr (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(source), "r"(bytes) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(source), "n"(BYTES), "r"(bytes)
                     : "memory");
}

// Close a group of copies; wait until all but the last PENDING groups of this thread have arrived.
DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING>
DEVICE void copy_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// 8 x 8 matrices of 16-bit elements from shared memory to registers: lane i names row i % 8 of matrix i / 8
// (16 aligned bytes). Lane i receives elements (i / 4, 2 (i % 4) + {0, 1}) of each; transposed, those of its transpose.
DEVICE void load_matrices(unsigned (&r)[4], SharedAddress row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}
DEVICE void load_matrices(unsigned (&r)[2], SharedAddress row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(row)
                 : "memory");
}
DEVICE void load_matrices_transposed(unsigned (&r)[4], SharedAddress row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}
DEVICE void load_matrices_transposed(unsigned (&r)[2], SharedAddress row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(row)
                 : "memory");
}

// d (16 x 8) += a (16 x 16) b (16 x 8), or with half the depth, sums in float32. With g = lane / 4, t = lane % 4:
// d: (g, 2t + {0, 1}), (g + 8, 2t + {0, 1}); a: (g, 2t..), (g + 8, 2t..), (g, 2t + 8..), (g + 8, 2t + 8..);
// b: (2t + {0, 1}, g), (2t + 8 + {0, 1}, g).
#define MATRIX_MULTIPLY_ADD(T, name)                                                                              \
    DEVICE void multiply_add(T, float (&d)[4], const unsigned* a, unsigned b0, unsigned b1) {                     \
        asm("mma.sync.aligned.m16n8k16.row.col.f32." name "." name                                                \
            ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                                \
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                      \
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));                                      \
    }                                                                                                             \
    DEVICE void multiply_add(T, float (&d)[4], const unsigned* a, unsigned b0) {                                  \
        asm("mma.sync.aligned.m16n8k8.row.col.f32." name "." name                                                 \
            ".f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"                                            \
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                      \
            : "r"(a[0]), "r"(a[1]), "r"(b0));                                                                     \
    }
MATRIX_MULTIPLY_ADD(bf16, "bf16")
MATRIX_MULTIPLY_ADD(f16, "f16")
#undef MATRIX_MULTIPLY_ADD

// d (16 x 8) += a (16 x 8) b (8 x 8) of float32 cut to TF32, sums in float32, d as above.
// a: (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4); b: (t, g), (t + 4, g).
DEVICE void multiply_add(float, float (&d)[4], const unsigned* a, unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#endif
