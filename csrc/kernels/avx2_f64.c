/* AVX2 with FMA, float64: tiles of 6 rows x 2 registers. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#define FBP_AVX2
#define FBP_REAL 64
#define ISA_NAME "avx2"
#define KERNELS_TABLE fbp_kernels_avx2_f64
#define MR 6
#define NV 2
#define TILE_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6)
#define WIDE_ROWS_2(X) X(1) X(2) X(3)
#define WIDE_ROWS_3(X) X(1) X(2)
#define WIDE_ROWS_4(X) X(1)
#include "body.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int fbp_not_for_this_cpu;
#endif
