/* Any CPU, no fused multiply-add, float64: tiles of 4 rows x 2 registers. */
#define FBP_BASE
#define FBP_REAL 64
#define ISA_NAME "base"
#define KERNELS_TABLE fbp_kernels_base_f64
#define MR 4
#define NV 2
#define TILE_ROWS(X) X(1) X(2) X(3) X(4)
#define WIDE_ROWS_2(X) X(1) X(2)
#define WIDE_ROWS_3(X) X(1)
#define WIDE_ROWS_4(X) X(1)
#include "body.h"
