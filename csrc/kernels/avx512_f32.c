/* AVX-512 (F, BW, DQ, VL), float32: tiles of 12 rows x 2 registers. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma,tune=skylake-avx512")
#endif
#define FBP_AVX512
#define FBP_REAL 32
#define ISA_NAME "avx512"
#define KERNELS_TABLE fbp_kernels_avx512_f32
#define MR 12
#define NV 2
#define TILE_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#define WIDE_ROWS_2(X) X(1) X(2) X(3) X(4) X(5) X(6)
#define WIDE_ROWS_3(X) X(1) X(2) X(3) X(4)
#define WIDE_ROWS_4(X) X(1) X(2) X(3)
#include "body.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int fbp_not_for_this_cpu;
#endif
