/* body.h: every kernel, for the ISA and dtype that the stub including it has chosen, and the one symbol it exports: its
 * table. All else is static. */
#include <math.h>

#include "activation.h"
#include "binary.h"
#include "dropout.h"
#include "gemm.h"
#include "kernels.h"
#include "loss.h"
#include "narrow.h"
#include "norm.h"
#include "optimizer.h"
#include "pack.h"
#include "reduce.h"
#include "tile.h"
#include "turned.h"
#include "vec.h"
#include "vmath.h"
#include "vslope.h"
#include "vtrans.h"

#define PEAK_CHAINS 12      /* independent accumulators: enough for two pipes of latency up to 6, few enough for 16 registers */

/* n rounds of PEAK_CHAINS independent FMAs: what this processor can do at most. Several to a jump, as a loop of one was up to 8 %
 * slower, depending on where the linker put it. */
static double fma_loop(size_t n)
{
    vec s[PEAK_CHAINS];
    const vec x = vset1((real)0.999), y = vset1((real)0.001);
    for (int i = 0; i < PEAK_CHAINS; i++) s[i] = vset1((real)(i + 1));
    _Pragma("GCC unroll 8") for (size_t round = 0; round < n; round++)
        UNROLL for (int i = 0; i < PEAK_CHAINS; i++) s[i] = vfma(s[i], x, y);
    volatile real sink = 0;
    for (int i = 0; i < PEAK_CHAINS; i++) sink = sink + s[i][0];
    return 2.0 * PEAK_CHAINS * VL * (double)n;
}

extern const struct fbp_kernels KERNELS_TABLE;
const struct fbp_kernels KERNELS_TABLE = {
    .isa = ISA_NAME,
    .dtype = FBP_REAL == 32 ? "float32" : "float64",
    .size = sizeof(real),
    .mr = MR,
    .nr = NR,
    .lanes = VL,
    .gemm_rows = gemm_rows,
    .gemm_rows_transposed = gemm_rows_transposed,
    .gemm_cols = gemm_cols,
    .pack = pack,
    .unpack = unpack,
    .turn = TURNS ? turn : NULL,
    .add_rows = add_rows,
    .binary = BINARIES,
    .normalize_rows = normalize_rows,
    .normalize_columns = normalize_columns,
    .normalize_rows_grad = normalize_rows_grad,
    .normalize_columns_grad = normalize_columns_grad,
    .column_sums = column_sums,
    .column_means = column_means,
    .column_scales = column_scales,
    .move_average = move_average,
    .dropout = dropout,
    .sum_squares = sum_squares,
    .limit_norms = limit_norms,
    .act = ACTIVATIONS,
    .loss = LOSSES,
    .optimizer = OPTIMIZERS,
    .fma_loop = fma_loop,
};
